mod acts;
mod bugs;
mod chance;
mod check;
mod link;
mod node;
mod queue;
mod replication;
mod story;
mod threads;
mod world;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_story_ends_well() {
    let first = number("MMHA_SEED").unwrap_or(1);
    let count = number("MMHA_SEEDS").unwrap_or(if number("MMHA_SEED").is_some() { 1 } else { 1000 });
    let (mut model, mut steps, mut decisions, mut writes, mut moves) = (0, 0, 0, 0, 0);
    let began = std::time::Instant::now();
    let mut failed = Vec::new();
    for seed in first..first + count {
        let outcome = story::tell(seed, None);
        model += outcome.model_us;
        steps += outcome.steps;
        decisions += outcome.decisions;
        writes += outcome.writes;
        moves += outcome.moves;
        if let Some(fault) = outcome.fault {
            println!("seed {seed}: {fault}");
            failed.push(seed);
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{count} seeds, {:.1} h in {took:.1} s: {:.0} h/min; {steps} steps {decisions} decisions {writes} writes {moves} moves", model as f64/3.6e9, model as f64/3.6e9/took*60.0);
    assert!(failed.is_empty(), "{} of {count} fail: {failed:?}", failed.len());
}

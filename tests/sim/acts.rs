//! What breaks things and what mends them, and what operators do.

use mmha::core::event::Event;

use crate::check::{DAZED_US, LETTING_GO_US, UNBLESSED_US, UNSEEN_US};
use crate::node::{Clock, Health};
use crate::queue::Job;
use crate::threads::ANNOUNCE_AGAIN_US;
use crate::world::World;

impl World {
    pub fn act(&mut self, act: &str, at: usize) {
        if self.trace {
            println!("{:>11.6}  {act} db-0{}", self.now as f64 / 1e6 - 100.0, at + 1);
        }
        if !self.act_on_box(act, at)
            && !self.act_on_agent(act, at)
            && !self.act_on_server(act, at)
            && !self.act_on_network(act, at)
            && !self.act_on_arbiter(act, at)
        {
            panic!("no act {act}");
        }
        self.check();
    }

    fn act_on_box(&mut self, act: &str, at: usize) -> bool {
        let now = self.now;
        let node = &mut self.nodes[at];
        match act {
            "power_off" => self.power_off(at),
            // One that runs is not switched on.
            "power_on" if node.powered => {}
            "power_on" => self.power_on(at),
            "sleep" => {
                node.asleep = node.powered;
                self.unbless(at);
            }
            "pause" if node.powered && !node.paused => {
                node.paused = true;
                node.clock.stop(now);
            }
            "pause" => {}
            "go_on" => {
                if std::mem::take(&mut node.paused) {
                    node.clock.go_on(now);
                    // At most for as long as it may believe in the arbiter's lease. A main thread that stands still hears nothing, but ends its blessing.
                    let stuck = node.agent.as_ref().is_some_and(|agent| agent.stuck);
                    let hears = match self.udp == [true; 2] {
                        _ if stuck => UNBLESSED_US,
                        true => DAZED_US,
                        false => ANNOUNCE_AGAIN_US + LETTING_GO_US,
                    };
                    let believes = self.set.limits.arbiter_ttl.map_or(hears, |ttl| ttl * 1000);
                    (node.dazed_since, node.dazed_until) = (now, now + believes);
                } else if node.asleep {
                    // Its lease slept too; the first thing it does is to let go.
                    node.dazed_until = now + LETTING_GO_US;
                }
                node.asleep = false;
                self.wake(at);
            }
            "disk_full" => node.disk_full = true,
            "disk_free" => node.disk_full = false,
            "disk_slow" => node.disk_us = 1_500_000,
            "disk_fast" => node.disk_us = 1_000,
            "vip_broken" => node.vip_broken = true,
            "vip_mended" => {
                node.vip_broken = false;
                if self.state(0) == Some("address") && self.state(1) == Some("address") {
                    self.watch.unseen_until = now + UNSEEN_US;
                }
            }
            _ => return false,
        }
        self.network_changed();
        true
    }

    fn power_off(&mut self, at: usize) {
        self.end_agent(at);
        self.nodes[at].powered = false;
        self.end_server(at);
        let node = &mut self.nodes[at];
        (node.vip_until, node.gate_until, node.vip_renewed) = (0, 0, 0);
        (node.paused, node.asleep, node.forced, node.dazed_until) = (false, false, false, 0);
        node.waiting.clear();
        self.forget_lease(at);
        self.unplug(at);
    }

    fn power_on(&mut self, at: usize) {
        let boots = self.chance.between(5_000_000, 60_000_000);
        let node = &mut self.nodes[at];
        node.powered = true;
        node.clock = Clock::new(self.now, boots, node.clock.rate());
        let quick = self.set.thread_us <= 100;
        let [server, agent] =
            if quick { [1, 1] } else { [self.chance.between(300_000, 3_000_000), self.chance.between(100_000, 2_000_000)] };
        self.start_server_in(at, server);
        self.nodes[at].life += 1;
        let life = self.nodes[at].life;
        self.queue.push(self.now + agent, at, life, Job::StartAgent);
    }

    fn act_on_agent(&mut self, act: &str, at: usize) -> bool {
        let node = &mut self.nodes[at];
        match act {
            "freeze" => {
                node.frozen = node.agent.is_some();
                self.unbless(at);
            }
            "thaw" => {
                if std::mem::take(&mut node.frozen) {
                    node.dazed_until = node.dazed_until.max(self.now + LETTING_GO_US); // the first thing it does
                }
                self.wake(at);
            }
            "kill_agent" => {
                // What it was about to let go ends by itself.
                if node.dazed_until > self.now {
                    node.dazed_until = self.now + node.leases_left(self.now);
                }
                self.end_agent(at);
            }
            "start_agent" => self.start_agent(at),
            "stick" => {
                let time = self.chance.between(20_000, 4_500_000);
                self.stick(at, time);
            }
            "stop" if !node.frozen => self.post(at, Event::Stop),
            "switchover" if !node.frozen => self.post(at, Event::Switch { force: false }),
            "force" if !node.frozen => {
                node.forced = true;
                self.watch.forced = true;
                self.post(at, Event::Switch { force: true });
            }
            "stop" | "switchover" | "force" => {}
            _ => return false,
        }
        true
    }

    fn act_on_server(&mut self, act: &str, at: usize) -> bool {
        let server = &mut self.nodes[at].server;
        match act {
            "kill_server" => self.end_server(at),
            "start_server" if server.up == Health::Hung => self.unhang(at),
            "start_server" if self.nodes[at].powered => {
                let wait = if self.set.thread_us <= 100 { 1 } else { self.chance.between(50_000, 2_000_000) };
                self.start_server_in(at, wait);
            }
            "start_server" => {}
            "hang_server" if server.up == Health::Up => server.up = Health::Hung,
            "hang_server" => {}
            "stall" => server.stalled = true,
            "unstall" => {
                server.stalled = false;
                self.send_rows(at, 1);
            }
            "lag" => server.lag_us = 3_000_000,
            "keep_up" => server.lag_us = 0,
            "slow_server" => server.slow_us = 300_000,
            "quick_server" => server.slow_us = 2_000,
            "no_recover" => self.nodes[at].no_recover = true,
            _ => return false,
        }
        true
    }

    fn act_on_network(&mut self, act: &str, at: usize) -> bool {
        let node = &mut self.nodes[at];
        match act {
            "cut_cable" => node.carrier = false,
            "mend_cable" => node.carrier = true,
            "cut_lan" => node.lan = false,
            "mend_lan" => node.lan = true,
            "cut_gateway" => self.gateway = false,
            "mend_gateway" => self.gateway = true,
            "cut_udp" => self.udp = [false; 2],
            "cut_udp_from" => self.udp[at] = false,
            "cut_tcp" => self.tcp = false,
            "cut_links" => (self.udp, self.tcp) = ([false; 2], false),
            "cut_layer_2" => (self.udp, self.tcp, self.arp) = ([false; 2], false, false),
            "mend_links" => {
                if !self.arp {
                    self.arp_since = self.now;
                }
                (self.udp, self.tcp, self.arp) = ([true; 2], true, true);
            }
            "lose" => self.set.lost = 300,
            "lose_nothing" => self.set.lost = 0,
            "replay" => self.replaying = true,
            "replay_nothing" => self.replaying = false,
            _ => return false,
        }
        if matches!(act, "cut_cable" | "mend_cable") && self.nodes[at].agent.is_some() {
            let wait = self.chance.between(500, 30_000);
            self.after(at, wait, Job::Carrier);
        }
        // What a main thread that stands still did not end, or an agent that does or is no more, is open until the last lease has ended.
        if act.starts_with("mend") && self.arbiter.is_none() {
            for node in &mut self.nodes {
                let left = match &node.agent {
                    Some(agent) if agent.stuck => self.set.limits.gate * 1000,
                    Some(_) if !node.frozen => continue,
                    _ => node.leases_left(self.now),
                };
                (node.dazed_since, node.dazed_until) = (self.now, node.dazed_until.max(self.now + left));
            }
        }
        self.network_changed();
        true
    }

    pub fn heal(&mut self) {
        for at in 0..2 {
            for mend in ["power_on", "go_on", "thaw", "disk_free", "disk_fast", "vip_mended", "mend_cable", "mend_lan", "start_server"] {
                self.act(mend, at);
            }
            for mend in ["unstall", "keep_up", "quick_server"] {
                self.act(mend, at);
            }
        }
        for mend in ["mend_links", "mend_gateway", "lose_nothing", "replay_nothing"] {
            self.act(mend, 0);
        }
        if self.arbiter.is_some() {
            for (mend, at) in [("arbiter_up", 0), ("quick_arbiter", 0), ("mend_arbiter", 0), ("mend_arbiter", 1)] {
                self.act(mend, at);
            }
        }
    }
}

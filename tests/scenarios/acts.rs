//! What breaks the modelled world, what mends it, and what operators do in it.

use mmha::core::event::{DiskSeen, Event};

use crate::node::{Node, Server, step};
use crate::world::World;

impl World {
    pub fn act(&mut self, act: &str, words: &[&str]) {
        let at = words.first().map_or(0, |name| usize::from(*name == "db-02"));
        let now = self.now;
        let node = &mut self.nodes[at];
        match act {
            "power_off" => {
                node.end_server();
                let old = std::mem::replace(node, Node::new());
                let Node { record, merge, own, applied, session, carrier, ping, slow_ms, .. } = old;
                let (powered, server, receiver, received) = (false, Server::Dead, false, applied);
                *node = Node {
                    powered,
                    record,
                    own,
                    applied,
                    received,
                    session,
                    carrier,
                    ping,
                    slow_ms,
                    server,
                    receiver,
                    merge,
                    ..Node::new()
                };
                self.arbiter.iter_mut().for_each(|arbiter| arbiter.boot(at, true));
            }
            // Nothing starts on a box without power, and one that runs is not switched on.
            "start_server" | "hang_server" | "start_agent" | "freeze" if !node.powered => {}
            "power_on" if node.powered => {}
            "power_on" => {
                node.powered = true;
                node.server = Server::Up;
                self.boot(at);
            }
            // Crash recovery will drop the unacknowledged tail, as MariaDB's does when the peer has taken over.
            "kill_server" => node.end_server(),
            "stall" => node.stalled = true,
            "disk_fails" => step(node, Event::Disk(DiskSeen::Failed("no space left".into())), now),
            "disk_mended" => step(node, Event::Disk(DiskSeen::Ok), now),
            "hold_applier" => node.applier_held = true,
            "free_applier" => (node.applier_held, node.applied) = (false, node.received),
            "disk_full" => node.disk_full = true,
            "vip_broken" => node.vip_broken = true,
            "no_recover" => node.no_recover = true,
            "start_server" => node.server = Server::Up,
            "hang_server" => node.server = Server::Hung,
            "slow" => node.slow_ms = words[1].parse().expect("a number of ms"),
            "lose_tail" => node.own -= words[1].parse::<u64>().expect("a count"),
            "add_extra" => node.own += words[1].parse::<u64>().expect("a count"),
            "conflict" => node.conflict = true,
            "no_conflict" => node.conflict = false,
            // The operator lets go what is extra now.
            "merge" => {
                let extra = node.core.as_ref().map(|core| core.view().extra()).unwrap_or_default();
                step(node, Event::Merge(extra), now);
            }
            "stranger_answers" => node.stranger = true,
            "stranger_gone" => node.stranger = false,
            "freeze" => node.frozen = true,
            "thaw" => node.frozen = false,
            // Every process stands still, two commits under way; the kernel still takes connections.
            "freeze_box" => (node.frozen, node.server, node.own, node.waiting) = (true, Server::Hung, node.own + 2, node.waiting + 2),
            "thaw_box" => (node.frozen, node.server) = (false, Server::Up),
            "kill_agent" => node.core = None,
            "start_agent" => self.boot(at),
            "stop" => step(node, Event::Stop, now),
            "switchover" => step(node, Event::Switch { force: false }, now),
            "pause" => step(node, Event::Pause { minutes: words[1].parse().expect("a number of minutes") }, now),
            "resume" => step(node, Event::Resume, now),
            "force" => step(node, Event::Switch { force: true }, now),
            "cut_cable" => (node.carrier, node.ping) = (false, false),
            "mend_cable" => (node.carrier, node.ping) = (true, true),
            "cut_lan" => node.ping = false,
            "mend_lan" => node.ping = true,
            "cut_udp" => self.udp = [false; 2],
            "cut_udp_from" => self.udp[at] = false,
            "mute" => self.mute[at] = true,
            "cut_links" => (self.udp, self.tcp) = ([false; 2], false),
            "cut_layer_2" => (self.udp, self.tcp, self.arp) = ([false; 2], false, false),
            "mend_links" => (self.udp, self.tcp, self.arp, self.mute) = ([true; 2], true, true, [false; 2]),
            "arbiter" => self.arbiter_act(words),
            other => panic!("no act {other}"),
        }
    }
}

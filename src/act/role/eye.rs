//! What the observer sees, put to use by the role thread: it need not look at a server that is as ordered, and learns at once when it no longer is.

use std::sync::{Arc, Mutex, PoisonError};

use super::Order;
use crate::core::event::ServerSeen;
use crate::sys::slot::Writer;

#[derive(Clone)]
pub struct Eye {
    orders: Writer<Order>,
    /// The order that the server met when it was last seen, if it did.
    met: Arc<Mutex<Option<Order>>>,
}

impl Eye {
    pub fn on(orders: Writer<Order>) -> Eye {
        Eye { orders, met: Arc::default() }
    }

    /// To be told of each look.
    pub fn see(&self, seen: &ServerSeen) {
        let order = self.orders.get();
        let met = matches!(seen, ServerSeen::Ok(sample) if order.is_met_by(sample));
        let before = std::mem::replace(&mut *self.met.lock().unwrap_or_else(PoisonError::into_inner), met.then_some(order));
        if before.is_some() && !met {
            self.orders.ring();
        }
    }

    pub(super) fn finds_met(&self, order: &Order) -> bool {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(order)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::core::event::{ReplicaSample, Sample};
    use crate::core::want::{Receiver, Writes};
    use crate::sys::slot::{self, slot};
    use crate::sys::{clock, timer};

    fn order(writes: Writes, receiver: Receiver) -> Order {
        Order { order: 7, writes, receiver, recover_to: None, semi_sync: true, applied_first: false, spare_waiting: false }
    }

    fn sample(read_only: bool, semi_sync_on: bool, receiver_running: bool, applier_running: bool) -> Sample {
        let replica = Some(ReplicaSample { receiver_running, applier_running, ..ReplicaSample::default() });
        Sample { read_only, semi_sync_on, replica, ..Sample::default() }
    }

    #[test]
    fn only_a_server_that_is_as_ordered_is_left_alone() {
        use {Receiver as R, Writes as W};
        for (writes, receiver, [closed, semi_sync, receives, applies], expect) in [
            (W::Closed, R::On, [true, false, true, true], true),
            (W::Closed, R::On, [false, false, true, true], false), // somebody has opened it
            (W::Closed, R::On, [true, true, true, true], false),
            (W::Closed, R::On, [true, false, false, true], false),
            (W::Closed, R::On, [true, false, true, false], false), // its applier may have to be started again
            (W::Closed, R::Off, [true, false, true, true], false),
            (W::Closed, R::Off, [true, false, false, false], true),
            (W::Closed, R::Restart, [true, false, true, true], false), // once in a while, not once
            (W::Closed, R::Recover, [true, false, true, true], false),
            (W::Open, R::Keep, [false, true, false, false], true),
            (W::Open, R::Keep, [false, false, true, true], false),
            (W::Open, R::On, [true, true, true, true], false),
            (W::Keep, R::Keep, [false, false, false, false], true),
        ] {
            let seen = sample(closed, semi_sync, receives, applies);
            assert_eq!(order(writes, receiver).is_met_by(&seen), expect, "{writes:?} {receiver:?} {seen:?}");
        }
        let no_replica = Sample { replica: None, ..sample(true, false, false, false) };
        assert!(order(W::Closed, R::On).is_met_by(&no_replica), "bootstrap sees to that");
    }

    fn is_rung(reader: &mut slot::Reader<Order>) -> bool {
        let rung = timer::wait_readable(&[reader.as_fd()], clock::now_ms()).expect("poll")[0];
        reader.take_bell();
        rung
    }

    #[test]
    fn the_role_thread_hears_once_that_its_server_is_no_longer_as_ordered() {
        let ordered = order(Writes::Closed, Receiver::On);
        let (writer, mut reader) = slot(ordered.clone()).expect("slot");
        let eye = Eye::on(writer.clone());
        let [closed, opened] = [true, false].map(|closed| ServerSeen::Ok(Arc::new(sample(closed, false, true, true))));
        eye.see(&opened);
        assert!(!eye.finds_met(&ordered) && !is_rung(&mut reader), "it has not been at rest: it looks by itself");
        eye.see(&closed);
        assert!(eye.finds_met(&ordered) && !is_rung(&mut reader));
        for broken in [&opened, &ServerSeen::Dead, &ServerSeen::Hung] {
            eye.see(&closed);
            eye.see(broken);
            assert!(!eye.finds_met(&ordered) && is_rung(&mut reader), "{broken:?}");
            eye.see(broken);
            assert!(!is_rung(&mut reader));
        }
        eye.see(&closed);
        writer.put_quietly(Order { semi_sync: false, ..ordered });
        assert!(!eye.finds_met(&reader.get()), "it says nothing about another order");
    }
}

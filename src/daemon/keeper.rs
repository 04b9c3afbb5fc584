//! The quarantine's thread, and how what it finds reaches the core. It judges nothing.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use crate::act::quarantine::{self, Order, Seen};
use crate::config::Config;
use crate::core::event::Event;
use crate::daemon::Message;
use crate::report::QUARANTINE;
use crate::sql::Login;
use crate::sys::slot::Reader;

/// What the thread does, for ever.
pub fn body(config: &Config, orders: Reader<Order>, messages: SyncSender<Message>) -> impl FnOnce() + Send + 'static {
    let login = Login::local(config);
    move || {
        quarantine::run(Path::new(QUARANTINE), &login, orders, |seen| {
            let message = match seen {
                Seen::Accepted(extra) => Message::Event(Event::Merge(extra)),
                Seen::Kept(kept) => Message::Kept(kept),
            };
            let _ = messages.send(message);
        });
    }
}

//! Drops what takes long to drop, on a thread of its own: a map of millions of keys would hold up
//! all groups of its worker.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// The way to the thread, which starts with the first thing that it is to drop. None where there is
/// none.
static THREAD: OnceLock<Option<Sender<Box<dyn Send>>>> = OnceLock::new();

/// Has `thing` dropped on the thread, or here if no thread can be started.
pub(super) fn dispose(thing: impl Send + 'static) {
    if let Some(thread) = THREAD.get_or_init(start) {
        // The thread ends with the process. What it can't take is dropped here.
        let _ = thread.send(Box::new(thing));
    }
}

fn start() -> Option<Sender<Box<dyn Send>>> {
    let (sender, things) = channel();
    let run = move || things.into_iter().for_each(drop);
    thread::Builder::new().name("disposal".into()).spawn(run).ok().map(|_| sender)
}

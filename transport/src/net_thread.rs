//! The one thread on which a transport does its work.

use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// How long the thread's end waits for a reader of a snapshot that is stuck in a read.
const READER_GRACE: Duration = Duration::from_millis(100);

/// An OS thread with a runtime of its own.
pub(crate) struct NetThread {
    handle: Handle,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl NetThread {
    /// Starts the thread, which lives as long as the future that `main` makes. If it panics,
    /// `failed` is called.
    ///
    /// # Errors
    /// When the system gives no thread or event queue.
    pub(crate) fn start<F>(
        name: &str,
        main: impl FnOnce(Stop) -> F + Send + 'static,
        failed: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        let runtime =
            Builder::new_current_thread().enable_all().thread_name(format!("{name}-io")).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = watch::channel(false);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let serve = AssertUnwindSafe(|| runtime.block_on(main(Stop(stopped))));
            if catch_unwind(serve).is_err() {
                failed();
            }
            runtime.shutdown_timeout(READER_GRACE);
        })?;
        Ok(Self { handle, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Where to spawn tasks from other threads.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The signal on which tasks of this thread end.
    pub(crate) fn stop_signal(&self) -> Stop {
        Stop(self.stop.subscribe())
    }

    /// Tells the thread to end and waits until it has, unless called on that thread itself.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        let current = thread::current().id();
        let thread = self.thread.lock().take_if(|it| it.thread().id() != current);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the network thread ended with a panic");
        }
    }
}

/// Says when to stop.
#[derive(Clone)]
pub(crate) struct Stop(pub(crate) watch::Receiver<bool>);

impl Stop {
    /// Waits until the thread is told to stop.
    pub(crate) async fn wait(&mut self) {
        // An error means that the sender is gone, so that no signal can come any more.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

//! Tests of what threads share, under every order of the threads that [`logboat_locks`] tries.

use logboat_locks::{Condvar, Mutex, MutexGuard, explore, thread};
use queue::{Queue, Server};
use std::sync::Arc;
use tokio::sync::oneshot;

#[expect(clippy::duplicate_mod, reason = "here it has other locks")]
#[path = "queue.rs"]
mod queue;

/// A mailbox that holds no more than that there is something to do.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<usize>, Condvar)>);

impl Server for Bell {
    fn wake(&self) {
        *self.0.0.lock() += 1;
        self.0.1.notify_one();
    }
}

impl Bell {
    fn wait(&self) {
        let mut rings = self.0.0.lock();
        while *rings == 0 {
            self.0.1.wait(&mut rings);
        }
        *rings -= 1;
    }
}

type Numbers = Queue<(u64, u64), Bell>;

fn poster(queue: &Arc<Numbers>, name: u64, count: u64) -> thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || (0..count).for_each(|number| queue.post((name, number))))
}

#[test]
fn the_server_is_woken_for_all_that_is_posted_even_before_it_is_there() {
    explore(|| {
        let queue = Arc::new(Numbers::new(0));
        let posters = [poster(&queue, 0, 3), poster(&queue, 1, 3)];
        let bell = Bell::default();
        queue.connect(bell.clone());
        let (mut items, mut taken) = (Vec::new(), Vec::new());
        while taken.len() < 6 {
            bell.wait();
            queue.take(&mut items);
            taken.append(&mut items);
        }
        for name in 0..2 {
            let of_one = taken.iter().filter(|item| item.0 == name);
            let numbers: Vec<_> = of_one.map(|item| item.1).collect();
            assert_eq!(numbers, [0, 1, 2], "in order, each once");
        }
        posters.into_iter().for_each(|poster| poster.join().unwrap());
        queue.take(&mut items);
        assert!(items.is_empty());
    });
}

#[test]
fn what_is_posted_together_stays_together_and_wakes_the_server() {
    explore(|| {
        let queue = Arc::new(Numbers::new(0));
        let bell = Bell::default();
        queue.connect(bell.clone());
        let post_all = |name| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.post_all((0..3).map(|number| (name, number)).collect()))
        };
        let posters = [post_all(0), post_all(1)];
        let (mut items, mut taken) = (Vec::new(), Vec::new());
        while taken.len() < 6 {
            bell.wait();
            queue.take(&mut items);
            taken.append(&mut items);
        }
        let first = taken[0].0;
        let expected = [first, 1 - first].map(|name| [(name, 0), (name, 1), (name, 2)]);
        assert_eq!(taken, expected.concat());
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}

#[test]
fn a_server_that_takes_the_place_of_another_misses_nothing() {
    explore(|| {
        let queue = Arc::new(Numbers::new(0));
        let (first, second) = (Bell::default(), Bell::default());
        queue.connect(first);
        let poster = poster(&queue, 0, 3);
        queue.connect(second.clone());
        let (mut items, mut taken) = (Vec::new(), Vec::new());
        while taken.len() < 3 {
            second.wait();
            queue.take(&mut items);
            taken.append(&mut items);
        }
        assert_eq!(taken, [(0, 0), (0, 1), (0, 2)]);
        poster.join().unwrap();
    });
}

#[test]
fn weighed_items_are_refused_beyond_the_limit_unless_no_other_waits() {
    explore(|| {
        let queue = Arc::new(Numbers::new(100));
        let post = |name| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.post((name, 0));
                queue.post_weighed((name, 1), 150)
            })
        };
        let posters = [post(0), post(1)];
        let accepted = posters.map(|poster| poster.join().unwrap());
        assert_eq!(accepted.iter().filter(|accepted| **accepted).count(), 1);
        let mut items = Vec::new();
        queue.take(&mut items);
        assert_eq!(items.len(), 3);
        assert!(queue.post_weighed((2, 1), 60) && queue.post_weighed((2, 2), 40));
        assert!(!queue.post_weighed((2, 3), 1));
    });
}

#[test]
fn an_item_that_comes_alone_is_bounded_as_well() {
    explore(|| {
        let queue = Arc::new(Numbers::new(4 << 20));
        let post = |weight| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.post_weighed((0, 0), weight))
        };
        let posters = [post(8 << 20), post((8 << 20) + 1)];
        let accepted = posters.map(|poster| poster.join().unwrap());
        assert_eq!(accepted, [true, false]);
    });
}

#[test]
fn nobody_waits_for_a_server_that_is_gone() {
    explore(|| {
        let queue = Arc::new(Queue::<oneshot::Sender<()>, Bell>::new(0));
        let bell = Bell::default();
        queue.connect(bell.clone());
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let (sender, answer) = oneshot::channel();
                    queue.post(sender);
                    logboat_locks::future::block_on(answer)
                })
            })
            .collect();
        bell.wait();
        let mut taken = Vec::new();
        queue.take(&mut taken);
        for caller in taken {
            caller.send(()).unwrap();
        }
        queue.close();
        for caller in callers {
            // Each call gets an answer, or learns that there is none. None is left waiting.
            let _ = caller.join().unwrap();
        }
    });
}

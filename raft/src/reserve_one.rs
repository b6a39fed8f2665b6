//! Pushing onto queues that mostly hold one item. The standard library gives a queue room for four
//! items at its first push. In thousands of idle replicas that would be half of all memory.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Adds `item` to a queue. A queue without memory gets room for this item alone.
pub(crate) fn push_back<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

/// Adds `item` to a list. A list without memory gets room for this item alone.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_takes_no_room_for_others() {
        let (mut queue, mut list) = (VecDeque::new(), Vec::new());
        push_back(&mut queue, 1_u64);
        push(&mut list, 1_u64);
        assert_eq!((queue.capacity(), list.capacity()), (1, 1));
        push_back(&mut queue, 2);
        push(&mut list, 2);
        assert_eq!((queue, list), (VecDeque::from([1, 2]), [1, 2].to_vec()));
    }
}

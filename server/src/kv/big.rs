//! Unsigned integers of any size, with the few operations that exact floating-point text needs.

use std::cmp::Ordering;

/// An unsigned integer: 32-bit limbs, the lowest first, without zero limbs at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Big {
    limbs: Vec<u32>,
}

/// The bits that a shift drops, as far as rounding needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// The highest of them.
    half: bool,
    /// Whether any of the others is set.
    below: bool,
}

impl Dropped {
    /// Whether round to nearest, ties to even, goes up. `inexact`: something non-zero lies below
    /// even the lowest bit. `odd`: the lowest bit that is kept is set.
    pub(super) const fn rounds_up(self, inexact: bool, odd: bool) -> bool {
        self.half && (self.below || inexact || odd)
    }
}

impl Big {
    pub(super) fn power_of_ten(exponent: u64) -> Self {
        let mut power = Self::from(1);
        let mut left = exponent;
        while left > 0 {
            let step = left.min(9) as u32;
            power.multiply_add(10u32.pow(step), 0);
            left -= u64::from(step);
        }
        power
    }

    pub(super) const fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    /// The position of the highest set bit, counted from one; zero for zero.
    pub(super) fn bits(&self) -> u64 {
        self.limbs
            .last()
            .map_or(0, |top| self.limbs.len() as u64 * 32 - u64::from(top.leading_zeros()))
    }

    /// `self × factor + addend`, in place.
    pub(super) fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0u32; self.limbs.len() + other.limbs.len()];
        for (i, &a) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (j, &b) in other.limbs.iter().enumerate() {
                let sum = u64::from(a) * u64::from(b) + u64::from(limbs[i + j]) + carry;
                limbs[i + j] = sum as u32;
                carry = sum >> 32;
            }
            limbs[i + other.limbs.len()] = carry as u32;
        }
        Self::trimmed(limbs)
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let length = self.limbs.len().max(other.limbs.len());
        let mut limbs = Vec::with_capacity(length + 1);
        let mut carry = 0;
        for i in 0..length {
            let sum = u64::from(self.limb(i)) + u64::from(other.limb(i)) + carry;
            limbs.push(sum as u32);
            carry = sum >> 32;
        }
        limbs.push(carry as u32);
        Self::trimmed(limbs)
    }

    /// The difference; `other` is not larger.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut limbs = Vec::with_capacity(self.limbs.len());
        let mut borrow = 0;
        for i in 0..self.limbs.len() {
            let difference = i64::from(self.limb(i)) - i64::from(other.limb(i)) - borrow;
            limbs.push(difference as u32);
            borrow = i64::from(difference < 0);
        }
        assert_eq!(borrow, 0, "the subtrahend is not larger");
        Self::trimmed(limbs)
    }

    pub(super) fn shifted_left(&self, bits: u64) -> Self {
        if self.is_zero() {
            return Self::default();
        }
        let (whole, rest) = ((bits / 32) as usize, (bits % 32) as u32);
        let mut limbs = vec![0; whole];
        let mut carry = 0;
        for &limb in &self.limbs {
            let wide = u64::from(limb) << rest;
            limbs.push(wide as u32 | carry);
            carry = (wide >> 32) as u32;
        }
        limbs.push(carry);
        Self::trimmed(limbs)
    }

    /// The number without its lowest `drop` bits, which has at most 64 bits, and what was dropped.
    pub(super) fn split_bits(&self, drop: u64) -> (u64, Dropped) {
        let kept = (0..64).filter(|i| self.bit(drop + i)).fold(0, |kept, i| kept | (1 << i));
        let half = drop > 0 && self.bit(drop - 1);
        let below = (0..drop.saturating_sub(1).min(self.bits())).any(|i| self.bit(i));
        (kept, Dropped { half, below })
    }

    /// The quotient, and whether nothing remains. One bit a step: quotients here have some 67 bits.
    pub(super) fn divided_by(&self, divisor: &Self) -> (Self, bool) {
        let mut rest = self.clone();
        let mut quotient = Self::default();
        let steps = (self.bits() + 1).saturating_sub(divisor.bits());
        for shift in (0..steps).rev() {
            let shifted = divisor.shifted_left(shift);
            let fits = rest >= shifted;
            quotient.multiply_add(2, u32::from(fits));
            if fits {
                rest = rest.minus(&shifted);
            }
        }
        (quotient, rest.is_zero())
    }

    pub(super) fn to_decimal(&self) -> String {
        const GROUP: u64 = 1_000_000_000;
        let mut rest = self.limbs.clone();
        let mut groups = Vec::new();
        while !rest.is_empty() {
            let mut remainder = 0;
            for limb in rest.iter_mut().rev() {
                let dividend = (remainder << 32) | u64::from(*limb);
                *limb = (dividend / GROUP) as u32;
                remainder = dividend % GROUP;
            }
            groups.push(remainder);
            rest = Self::trimmed(rest).limbs;
        }
        let Some(top) = groups.pop() else {
            return "0".to_owned();
        };
        groups.iter().rev().fold(top.to_string(), |text, group| format!("{text}{group:09}"))
    }

    fn limb(&self, index: usize) -> u32 {
        self.limbs.get(index).copied().unwrap_or(0)
    }

    fn bit(&self, index: u64) -> bool {
        self.limb((index / 32) as usize) >> (index % 32) & 1 == 1
    }

    fn trimmed(mut limbs: Vec<u32>) -> Self {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        Self { limbs }
    }
}

impl From<u64> for Big {
    fn from(value: u64) -> Self {
        Self::trimmed(vec![value as u32, (value >> 32) as u32])
    }
}

impl Ord for Big {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn big(value: u128) -> Big {
        Big::from((value >> 64) as u64).shifted_left(64).plus(&Big::from(value as u64))
    }

    proptest! {
        #[test]
        fn agrees_with_128_bits(a: u64, b in 1..u64::MAX, shift in 0..64u64) {
            let (wide_a, wide_b) = (u128::from(a), u128::from(b));
            let (big_a, big_b) = (Big::from(a), Big::from(b));
            prop_assert_eq!(big_a.times(&big_b), big(wide_a * wide_b));
            prop_assert_eq!(big_a.plus(&big_b), big(wide_a + wide_b));
            prop_assert_eq!(big_a.shifted_left(shift), big(wide_a << shift));
            prop_assert_eq!(big_a.to_decimal(), a.to_string());
            prop_assert_eq!(big_a.cmp(&big_b), a.cmp(&b));
            let product = big_a.times(&big_b).plus(&Big::from(u64::from(b > 1)));
            prop_assert_eq!(product.divided_by(&big_b), (big_a, b == 1));
            prop_assert_eq!(product.minus(&Big::from(u64::from(b > 1))), big(wide_a * wide_b));
        }
    }

    #[test]
    fn powers_of_ten_print_as_such() {
        for exponent in [0, 1, 8, 9, 10, 100] {
            let expected = format!("1{}", "0".repeat(exponent as usize));
            assert_eq!(Big::power_of_ten(exponent).to_decimal(), expected);
        }
    }
}

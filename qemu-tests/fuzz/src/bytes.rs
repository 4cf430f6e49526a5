//! Reading an input as a program.

/// What is left of an input. Beyond its end everything reads as 0.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The whole input.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether the program is at its end.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// A number of `bytes` bytes, at most 8, the lowest first.
    pub fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes.min(8)).fold(0, |number, place| {
            number | u64::from(self.byte()) << (8 * place)
        })
    }

    /// 16 bits.
    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    /// 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::from(self.byte()) % bound.max(1)
    }

    /// A bit.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is nothing to choose from.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

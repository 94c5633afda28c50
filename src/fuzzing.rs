//! The door for `fuzz/`, which alone is compiled with it (`--cfg fuzzing`), and for the tests that look at what is kept
//! there: a function for each target. It takes any bytes, and panics when a promise does not hold for them.

#[cfg(feature = "grpc")]
pub use crate::control::fuzzing::{answer, control};
pub use crate::host::process::fuzzing::{both, frames, host, kernel, memory, notify, stderr};

/// What is to happen, as bytes: each act takes what it needs from their beginning.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// Of few bytes the missing ones are 0.
    pub(crate) fn number<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte().unwrap_or_default())
    }

    /// Up to 255 bytes.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte().unwrap_or_default()).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default()
    }

    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }
}

#[cfg(test)]
pub(crate) type Target = fn(&[u8]);

/// What is kept in `fuzz/corpus`, through the targets of these names.
#[cfg(test)]
pub(crate) fn replay(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let directory = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for file in std::fs::read_dir(directory).unwrap() {
            target(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name}");
    }
}

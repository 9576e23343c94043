//! Random sequences of batches, opens and cuts, against a list in memory.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Appends this many changes, in a higher epoch if the flag is set.
    Append(u64, bool),
    Reopen,
    /// Cuts or changes a byte of the last batch.
    Tear {
        cut: bool,
        byte: prop::sample::Index,
    },
    /// Changes a byte before the last batch.
    Damage(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let append = (0_u64..40, prop::bool::weighted(0.1));
    let tear = (any::<bool>(), any::<prop::sample::Index>());
    prop_oneof![
        6 => append.prop_map(|(count, epoch)| Step::Append(count, epoch)),
        2 => Just(Step::Reopen),
        1 => tear.prop_map(|(cut, byte)| Step::Tear { cut, byte }),
        1 => any::<prop::sample::Index>().prop_map(Step::Damage),
    ]
}

/// The expected content of the file: the batches and their offsets.
#[derive(Default)]
struct Model {
    batches: Vec<(usize, Vec<LogEntry>)>,
}

impl Model {
    fn all(&self) -> Vec<LogEntry> {
        self.batches.iter().flat_map(|(_, batch)| batch.clone()).collect()
    }

    fn last(&self) -> Lsn {
        self.batches
            .last()
            .and_then(|(_, batch)| batch.last())
            .map(|change| change.version)
            .unwrap_or_default()
    }
}

fn check(temp: &Temp, model: &Model) -> FileJournal {
    let (journal, read) = open(&temp.path()).unwrap();
    assert_eq!(read, model.all());
    assert_eq!(journal.last(), model.last());
    journal
}

fn run(steps: Vec<Step>) {
    let temp = Temp::new();
    let mut model = Model::default();
    let mut journal = check(&temp, &model);
    for step in steps {
        let bytes = temp.bytes();
        let start = model.batches.last().map_or(bytes.len(), |(start, _)| *start);
        match step {
            Step::Append(count, higher) => {
                let last = model.last();
                let epoch = last.epoch + u32::from(higher || last.epoch == 0);
                let batch = changes(epoch, last.number + 1..=last.number + count);
                journal.append(&batch).unwrap();
                if !batch.is_empty() {
                    model.batches.push((bytes.len(), batch));
                }
            }
            Step::Reopen => {
                drop(journal);
                journal = check(&temp, &model);
            }
            Step::Tear { cut, byte } if start < bytes.len() => {
                drop(journal);
                let at = start + byte.index(bytes.len() - start);
                let mut torn = bytes;
                if cut {
                    torn.truncate(at)
                } else {
                    torn[at] ^= 0x55
                }
                temp.set(&torn);
                model.batches.pop();
                journal = check(&temp, &model);
            }
            Step::Damage(byte) if model.batches.len() > 1 => {
                drop(journal);
                let at = 60 + byte.index(start - 60);
                let mut bad = bytes.clone();
                bad[at] ^= 0x55;
                temp.set(&bad);
                let wanted = model
                    .batches
                    .iter()
                    .map(|(start, _)| *start)
                    .rfind(|start| *start <= at)
                    .unwrap();
                let error = refused(&temp);
                let JournalError::Damaged { offset, .. } = error else { panic!("{error}") };
                assert_eq!(offset, wanted as u64);
                temp.set(&bytes);
                journal = check(&temp, &model);
            }
            Step::Tear { .. } | Step::Damage(_) => {}
        }
    }
    drop(journal);
    check(&temp, &model);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_matches_the_list(steps in vec(step(), 1..40)) {
        run(steps);
    }
}

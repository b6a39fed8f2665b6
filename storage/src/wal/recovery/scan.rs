//! Scans a segment: verifies its batches from the beginning on, and looks for valid headers behind
//! a batch that is torn or damaged.

use crate::wal::disk::BLOCK_BYTES;
use crate::wal::format::{
    BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader, Record, SegmentHeader, position,
};
use bytes::Bytes;
use logboat_raft::{GroupId, LogPosition};

/// The header of a segment and what it holds, or why the header can't be believed.
pub(crate) type Scanned = Result<(SegmentHeader, Scan), String>;

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Valid batches from the beginning on, without a gap.
    pub(crate) batches: u64,
    /// Valid batch headers behind the first invalid batch, and that one's own if it is valid.
    pub(crate) behind: u64,
    /// Where the valid batches end.
    pub(crate) end: u64,
    /// The last of the valid batches.
    pub(crate) last: Option<BatchHeader>,
    /// The highest durable mark in any valid header.
    pub(crate) mark: LogPosition,
    /// Where the segment before this one ends, if any valid header says so. Nothing is written into
    /// a segment before the segment before it is durable as a whole.
    pub(crate) previous_end: Option<u64>,
    /// Why what stands at `end` is no valid batch, and what is wrong with those batches behind
    /// that can still be found.
    pub(crate) flaws: Vec<Flaw>,
    /// Batches before `end` whose headers are all valid, but not all data of entries.
    pub(crate) spoiled: Vec<Spoiled>,
}

/// A batch of which it is known what it says, but for the data of some entries.
#[derive(Debug)]
pub(crate) struct Spoiled {
    /// Where it begins.
    pub(crate) batch: u64,
    /// The batch before it.
    pub(crate) before: Option<BatchHeader>,
    /// Its records that hold such entries, each with the group whose entries they are.
    pub(crate) flaws: Vec<Flaw>,
}

/// The part of a segment that belongs to the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Where it ends.
    pub(crate) end: u64,
    /// Its last batch.
    pub(crate) last: Option<BatchHeader>,
    /// Whether there is something behind it.
    pub(crate) is_cut: bool,
}

/// Something that is not what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) offset: u64,
    pub(crate) what: String,
    pub(crate) groups: Vec<GroupId>,
}

impl Scan {
    /// Checks every batch of a segment, record headers and entries' data alike.
    pub(crate) fn new(file: &Bytes, segment: SegmentHeader) -> Self {
        let mut scan = Self {
            batches: 0,
            behind: 0,
            end: BLOCK_BYTES,
            last: None,
            mark: LogPosition::default(),
            previous_end: None,
            flaws: Vec::new(),
            spoiled: Vec::new(),
        };
        loop {
            match check_batch(file, segment, scan.end) {
                Ok((header, flaws)) => {
                    if !flaws.is_empty() {
                        let (batch, before) = (scan.end, scan.last);
                        scan.spoiled.push(Spoiled { batch, before, flaws });
                    }
                    scan.note(&header, segment.segment);
                    scan.batches += 1;
                    scan.end += header.bytes();
                    scan.last = Some(header);
                }
                Err(flaw) => {
                    scan.flaws.push(flaw);
                    break;
                }
            }
        }
        scan.search(file, segment);
        scan
    }

    /// Whether anything was ever written into this use of the segment, as far as can be seen.
    pub(crate) fn is_used(&self) -> bool {
        self.batches + self.behind > 0
    }

    /// Which part of the last segment belongs to the log, if what lies before `acknowledged` was
    /// durable. A batch behind that with spoiled data is torn.
    pub(crate) fn kept(&self, acknowledged: u64) -> Kept {
        match self.spoiled.iter().find(|spoiled| spoiled.batch >= acknowledged) {
            Some(torn) => Kept { end: torn.batch, last: torn.before, is_cut: true },
            None => Kept { end: self.end, last: self.last, is_cut: self.behind > 0 },
        }
    }

    /// Looks for valid headers behind the valid batches. Their marks tell a torn tail, which may
    /// have holes, from damage to acknowledged data.
    fn search(&mut self, file: &Bytes, segment: SegmentHeader) {
        for offset in (self.end..file.len() as u64).step_by(BATCH_ALIGN) {
            if let Some(header) = batch_at(file, segment, offset) {
                self.note(&header, segment.segment);
                self.behind += 1;
                let checked = check_batch(file, segment, offset);
                let flaws = checked.map_or_else(|flaw| vec![flaw], |(_, spoiled)| spoiled);
                self.flaws.extend(flaws.into_iter().filter(|_| offset > self.end));
            }
        }
    }

    fn note(&mut self, header: &BatchHeader, segment: u32) {
        self.mark = self.mark.max(header.durable);
        if header.durable.segment + 1 == segment {
            self.previous_end = self.previous_end.max(Some(u64::from(header.durable.offset)));
        }
    }
}

/// Scans the file of segment `id`, or says why its header can't be believed.
pub(crate) fn scan(file: &Bytes, id: u32) -> Scanned {
    let header = SegmentHeader::decode(file, id)?;
    Ok((header, Scan::new(file, header)))
}

/// Calls `each` with the records of the valid batches before `end`, and their offsets in the file.
pub(crate) fn replay(file: &[u8], salt: u64, end: u64, mut each: impl FnMut(u64, Record)) {
    let mut offset = BLOCK_BYTES;
    while offset < end
        && let Some(header) = BatchHeader::decode(file, salt, offset)
    {
        let mut at = offset as usize + BATCH_HEADER_BYTES;
        for _ in 0..header.records {
            let Some(record) = Record::parse(&file[at..]) else {
                break;
            };
            let bytes = record.bytes;
            each(at as u64, record);
            at += bytes;
        }
        offset += header.bytes();
    }
}

/// The batch header at `offset`, if one stands there that a log can have written.
fn batch_at(file: &Bytes, segment: SegmentHeader, offset: u64) -> Option<BatchHeader> {
    let place = position(segment.segment, offset);
    BatchHeader::decode(file, segment.salt, offset).filter(|header| header.is_possible(place))
}

/// The header of a batch that is valid but for data of entries, which are named.
fn check_batch(
    file: &Bytes,
    segment: SegmentHeader,
    offset: u64,
) -> Result<(BatchHeader, Vec<Flaw>), Flaw> {
    let salt = segment.salt;
    let start = offset as usize + BATCH_HEADER_BYTES;
    let Some(header) = batch_at(file, segment, offset) else {
        return Err(Flaw {
            offset,
            what: "no valid batch begins here".to_owned(),
            groups: file.get(start..).map_or_else(Vec::new, |body| groups(body, salt)),
        });
    };
    let end = (offset + header.bytes()) as usize;
    let (mut at, mut spoiled) = (start, Vec::new());
    for _ in 0..header.records {
        let (bytes, flaw) = check_record(&file[at..end], salt, at as u64)?;
        spoiled.extend(flaw);
        at += bytes;
    }
    let padding = &file[at..end];
    if padding.len() >= BATCH_ALIGN || padding.iter().any(|byte| *byte != 0) {
        return Err(Flaw {
            offset: at as u64,
            what: "there is something between two batches".to_owned(),
            groups: Vec::new(),
        });
    }
    Ok((header, spoiled))
}

/// The length of a record whose header is valid, and what is wrong with its entries' data.
fn check_record(bytes: &[u8], salt: u64, offset: u64) -> Result<(usize, Option<Flaw>), Flaw> {
    let Some(record) = Record::decode(bytes, salt) else {
        return Err(Flaw {
            offset,
            what: "a record header fails its checksum".to_owned(),
            groups: Vec::new(),
        });
    };
    match record.verify(bytes) {
        Ok(()) if !record.is_readable => {
            let what = "an entry holds a configuration that can't be read".to_owned();
            Err(Flaw { offset, what, groups: record.group().into_iter().collect() })
        }
        Ok(()) => Ok((record.bytes, None)),
        Err(mismatch) => {
            let (what, groups) = (mismatch.to_string(), vec![mismatch.group]);
            Ok((record.bytes, Some(Flaw { offset, what, groups })))
        }
    }
}

/// The groups of the records that can still be read behind a batch header that can't.
fn groups(mut body: &[u8], salt: u64) -> Vec<GroupId> {
    let mut groups = Vec::new();
    while let Some(record) = Record::decode(body, salt) {
        groups.extend(record.group());
        body = &body[record.bytes..];
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

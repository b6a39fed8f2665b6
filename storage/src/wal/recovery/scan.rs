//! Scans a segment: verifies its batches from the beginning on. A batch that is damaged is passed
//! by if its second list says whose records are lost. Behind another one that is torn or damaged,
//! valid headers are looked for.

use super::lost::Lost;
use crate::wal::disk::BLOCK_BYTES;
use crate::wal::format::{
    BATCH_ALIGN, BATCH_HEADER_BYTES, BadHeader, BatchHeader, ContentsPlace, Record, SegmentHeader,
    places, position,
};
use bytes::Bytes;
use logboat_raft::{GroupId, LogPosition};

/// The header of a segment and what it holds, or why the header can't be believed.
pub(crate) type Scanned = Result<(SegmentHeader, Scan), BadHeader>;

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Batches from the beginning on, without a gap, whose contents are known.
    pub(crate) batches: u64,
    /// Valid batch headers behind the first invalid batch, and that one's own if it is valid.
    pub(crate) behind: u64,
    /// Where these batches end.
    pub(crate) end: u64,
    /// The last of them that has a valid header.
    pub(crate) last: Option<BatchHeader>,
    /// The highest durable mark in any valid header.
    pub(crate) mark: LogPosition,
    /// Where the segment before this one ends, if any valid header says so. Nothing is written into
    /// a segment before the segment before it is durable as a whole.
    pub(crate) previous_end: Option<u64>,
    /// Why what stands at `end` is no valid batch, and what is wrong with those batches behind
    /// that can still be found.
    pub(crate) flaws: Vec<Flaw>,
    /// What is not what was written in batches before `end`.
    pub(crate) defects: Vec<Defect>,
}

/// A batch of which it is known what it held, though not all of it can be read.
#[derive(Debug)]
pub(crate) struct Defect {
    /// Where it begins.
    pub(crate) batch: u64,
    /// The valid header before it.
    pub(crate) before: Option<BatchHeader>,
    /// Its records whose entries' data are not what was written, each with the group whose entries
    /// they are; and what harms nobody.
    pub(crate) flaws: Vec<Flaw>,
    /// What can't be read of it.
    pub(crate) lost: Option<Lost>,
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
            defects: Vec::new(),
        };
        loop {
            match check_batch(file, segment, scan.end) {
                Ok(checked) => scan.add(checked, segment.segment),
                Err(flaw) => match scan.search(file, segment, flaw) {
                    Some(checked) => scan.add(checked, segment.segment),
                    None => return scan,
                },
            }
        }
    }

    /// Whether anything was ever written into this use of the segment, as far as can be seen.
    pub(crate) fn is_used(&self) -> bool {
        self.batches + self.behind > 0
    }

    /// Which part of the last segment belongs to the log, if what lies before `acknowledged` was
    /// durable. A batch behind that which is not whole is torn.
    pub(crate) fn kept(&self, acknowledged: u64) -> Kept {
        match self.defects.iter().find(|defect| defect.batch >= acknowledged) {
            Some(torn) => Kept { end: torn.batch, last: torn.before, is_cut: true },
            None => Kept { end: self.end, last: self.last, is_cut: self.behind > 0 },
        }
    }

    /// The next batch follows.
    fn add(&mut self, checked: Checked, segment: u32) {
        let Checked { header, bytes, durable, flaws, lost } = checked;
        if !flaws.is_empty() || lost.is_some() {
            let (batch, before) = (self.end, self.last);
            self.defects.push(Defect { batch, before, flaws, lost });
        }
        if let Some(durable) = durable {
            self.note(durable, segment);
        }
        self.batches += 1;
        self.end += bytes;
        self.last = header.or(self.last);
    }

    /// Looks behind what can be read, where `flaw` is. If the second list of the batch there comes
    /// before any valid header, it says what the batch held. Otherwise, looks for all valid
    /// headers: their marks tell a torn tail, which may have holes, from damage to acknowledged
    /// data.
    fn search(&mut self, file: &Bytes, segment: SegmentHeader, flaw: Flaw) -> Option<Checked> {
        let has_header = batch_at(file, segment, self.end).is_some();
        let mut flaws = vec![flaw];
        for offset in places(file, self.end) {
            if !has_header && self.behind == 0 {
                let lost = Lost::batch(file, segment, self.end, offset);
                if let Some((lost, durable)) = lost {
                    let bytes = offset - self.end;
                    let (header, flaws, lost) = (None, Vec::new(), Some(lost));
                    return Some(Checked { header, bytes, durable, flaws, lost });
                }
            }
            if let Some(header) = batch_at(file, segment, offset) {
                self.note(header.durable, segment.segment);
                self.behind += 1;
                let checked = check_batch(file, segment, offset).map(Checked::into_flaws);
                let found = checked.unwrap_or_else(|flaw| vec![flaw]);
                flaws.extend(found.into_iter().filter(|_| offset > self.end));
            }
        }
        self.flaws = flaws;
        None
    }

    /// A batch says how far the log was durable.
    fn note(&mut self, durable: LogPosition, segment: u32) {
        self.mark = self.mark.max(durable);
        if durable.segment.checked_add(1) == Some(segment) {
            self.previous_end = self.previous_end.max(Some(u64::from(durable.offset)));
        }
    }
}

/// Scans the file of segment `id`, or says why its header can't be believed.
pub(crate) fn scan(file: &Bytes, id: u32) -> Scanned {
    let header = SegmentHeader::decode(file, id)?;
    Ok((header, Scan::new(file, header)))
}

/// What [`replay`] finds.
pub(crate) enum Replayed<'a> {
    /// A record, and its offset in the file.
    Record(u64, Record),
    /// What can't be read.
    Lost(&'a Lost),
}

/// Calls `each` with the records before `end`, in their order, and with what is lost between them.
/// `defects` are those of the same scan.
pub(crate) fn replay<'a>(
    file: &[u8],
    salt: u64,
    end: u64,
    defects: &'a [Defect],
    mut each: impl FnMut(Replayed<'a>),
) {
    let mut losses = defects.iter().filter_map(|defect| defect.lost.as_ref()).peekable();
    let mut offset = BLOCK_BYTES;
    while offset < end {
        if let Some(lost) = losses.next_if(|lost| lost.stretch.start == offset) {
            each(Replayed::Lost(lost));
            offset = lost.stretch.end;
            continue;
        }
        let Some(header) = BatchHeader::decode(file, salt, offset) else { break };
        let mut at = offset + BATCH_HEADER_BYTES as u64;
        let mut left = header.records;
        while left > 0 {
            if let Some(lost) = losses.next_if(|lost| lost.stretch.start == at) {
                each(Replayed::Lost(lost));
                at = lost.stretch.end;
                left = left.saturating_sub(lost.records);
                continue;
            }
            let Some(record) = Record::parse(&file[at as usize..]) else { break };
            let bytes = record.bytes as u64;
            each(Replayed::Record(at, record));
            at += bytes;
            left -= 1;
        }
        offset += header.bytes();
    }
}

/// The batch header at `offset`, if one stands there that a log can have written.
pub(super) fn batch_at(file: &[u8], segment: SegmentHeader, offset: u64) -> Option<BatchHeader> {
    let place = position(segment.segment, offset);
    BatchHeader::decode(file, segment.salt, offset).filter(|header| header.is_possible(place))
}

/// A batch of which it is known what it holds.
struct Checked {
    /// Its header, if that is valid.
    header: Option<BatchHeader>,
    bytes: u64,
    /// How far the log was durable when it was written, if it can be known.
    durable: Option<LogPosition>,
    flaws: Vec<Flaw>,
    lost: Option<Lost>,
}

impl Checked {
    /// All that is wrong with it.
    fn into_flaws(self) -> Vec<Flaw> {
        let lost = self.lost.map(|lost| lost.flaw());
        self.flaws.into_iter().chain(lost).collect()
    }
}

/// A batch whose header is valid, and of whose records at least the groups are known.
fn check_batch(file: &Bytes, segment: SegmentHeader, offset: u64) -> Result<Checked, Flaw> {
    let salt = segment.salt;
    let start = offset as usize + BATCH_HEADER_BYTES;
    let Some(header) = batch_at(file, segment, offset) else {
        return Err(Flaw {
            offset,
            what: "no valid batch begins here".to_owned(),
            groups: file.get(start..).map_or_else(Vec::new, |body| groups(body, salt)),
        });
    };
    let end = offset + header.bytes();
    let place = ContentsPlace::find(file, salt, offset, end);
    let records_end = place.as_ref().map_or(end as usize, ContentsPlace::start);
    let (bytes, durable) = (header.bytes(), Some(header.durable));
    let mut checked =
        Checked { header: Some(header), bytes, durable, flaws: Vec::new(), lost: None };
    let mut at = start;
    for number in 0..header.records {
        match check_record(&file[at..records_end], salt, at as u64) {
            Ok((bytes, flaw)) => {
                checked.flaws.extend(flaw);
                at += bytes;
            }
            Err(BadRecord::Unreadable(flaw)) => {
                let place = place.as_ref().map(|place| (offset, place));
                let lost = place
                    .and_then(|place| Lost::records(file, segment, place, (number, at), &flaw));
                checked.lost = Some(lost.ok_or(flaw)?);
                checked.check_rest(file, salt, records_end);
                return Ok(checked);
            }
            Err(BadRecord::Foreign(flaw)) => return Err(flaw),
        }
    }
    // Nobody needs what stands there, unless something else is damaged as well.
    let padding = &file[at..records_end];
    if place.is_none() || padding.len() >= BATCH_ALIGN || padding.iter().any(|byte| *byte != 0) {
        let what = "what follows the records of a batch is damaged".to_owned();
        checked.flaws.push(Flaw { offset: at as u64, what, groups: Vec::new() });
    }
    Ok(checked)
}

impl Checked {
    /// Verifies the records behind what is lost.
    fn check_rest(&mut self, file: &Bytes, salt: u64, end: usize) {
        let Some(lost) = &self.lost else { return };
        let mut at = lost.stretch.end as usize;
        while let Ok((bytes, flaw)) = check_record(&file[at..end], salt, at as u64) {
            self.flaws.extend(flaw);
            at += bytes;
        }
    }
}

/// A record that is not as it was written, or that is not understood.
enum BadRecord {
    /// It is damaged.
    Unreadable(Flaw),
    /// It verifies, and says what no log says.
    Foreign(Flaw),
}

/// The length of a record whose header is valid, and what is wrong with its entries' data.
fn check_record(bytes: &[u8], salt: u64, offset: u64) -> Result<(usize, Option<Flaw>), BadRecord> {
    let Some(record) = Record::decode(bytes, salt) else {
        let what = "a record header fails its checksum".to_owned();
        return Err(BadRecord::Unreadable(Flaw { offset, what, groups: Vec::new() }));
    };
    match record.verify(bytes) {
        Ok(()) if !record.is_readable => {
            let what = "an entry holds a configuration that can't be read".to_owned();
            let groups = record.group().into_iter().collect();
            Err(BadRecord::Foreign(Flaw { offset, what, groups }))
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

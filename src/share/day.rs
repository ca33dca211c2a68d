//! On which day a link ends.
//!
//! Up to version 32 a link ends at 00:00 at the beginning of the day that is asked for, on 34 at its end. A person who
//! says "7 days" wants the link to work for seven whole days, and who names a day wants it to work on that day.

use jiff::Span;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use super::error::ShareError;
use crate::account::Session;

/// The last version on which a link ends at the beginning of its day.
const ENDS_IN_THE_MORNING: u32 = 32;

/// When a person wants a link to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After this many days.
    AfterDays(i32),
    /// At the end of this day.
    On(Date),
}

/// The day to ask a server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastDay {
    /// What is sent.
    pub(super) asked: Date,
    /// The last whole day on which the link works.
    pub(super) works_until: Date,
}

/// The days as a server counts them for the owner of a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    /// The day there. Where the server does not say in which time zone it counts, this machine's is assumed.
    pub(super) today: Date,
    /// The day that it may be there as well: the first and the last one on Earth, if the time zone is not known.
    earliest: Date,
    latest: Date,
    /// Whether a link ends at the beginning of its day.
    ends_in_the_morning: bool,
    /// The longest time that a link may last, days.
    days_max: Option<i32>,
}

/// Returns whether a server that was asked for a day may have made this of it: zones differ by less than a day.
pub(super) fn is_as_asked(ends: DateTime, asked: Date) -> bool {
    asked.yesterday().is_ok_and(|earliest| ends.date() >= earliest)
        && asked.tomorrow().is_ok_and(|latest| ends.date() <= latest)
}

fn after(day: Date, days: i32) -> Result<Date, ShareError> {
    let span = Span::new().try_days(days).map_err(|_| ShareError::NoSuchDay)?;
    day.checked_add(span).map_err(|_| ShareError::NoSuchDay)
}

impl Calendar {
    /// Returns the calendar of an account's server. The time is the server's: this machine's clock may be wrong.
    pub(super) fn of(session: &Session) -> Self {
        let (now, capabilities) = (session.client.server_time(), &session.capabilities);
        let day = |zone: TimeZone| now.to_zoned(zone).date();
        let (earliest, today, latest) = match &capabilities.time_zone {
            Some(zone) => (day(zone.clone()), day(zone.clone()), day(zone.clone())),
            None => {
                let at = |hours| day(TimeZone::fixed(Offset::constant(hours)));
                (at(-12), day(TimeZone::system()), at(14))
            }
        };
        Self {
            today,
            earliest,
            latest,
            ends_in_the_morning: capabilities.major <= ENDS_IN_THE_MORNING,
            days_max: capabilities.links.days_max,
        }
    }

    /// Returns what to ask the server for.
    pub(super) fn last_day(&self, end: End) -> Result<LastDay, ShareError> {
        let Self { today, days_max, ends_in_the_morning, .. } = *self;
        let works_until = match end {
            End::AfterDays(days) if days < 1 => return Err(ShareError::EndsBeforeItBegins),
            End::AfterDays(days) => match after(today, days) {
                Ok(day) => day,
                Err(_) => {
                    return Err(
                        days_max.map_or(ShareError::NoSuchDay, |days| ShareError::TooManyDays { days })
                    );
                }
            },
            End::On(day) if day < today => return Err(ShareError::EndsBeforeItBegins),
            End::On(day) => day,
        };
        // What is longer than the calendar is no bound.
        let longest = days_max.and_then(|days| after(today, days).ok());
        if let (Some(days), Some(longest)) = (days_max, longest)
            && works_until > longest
        {
            return Err(ShareError::TooManyDays { days });
        }
        let next = works_until.tomorrow().map_err(|_| ShareError::NoSuchDay)?;
        let asked = match longest {
            // Then it ends some hours early.
            Some(longest) if next > longest => works_until,
            _ if ends_in_the_morning => next,
            _ => works_until,
        };
        if ends_in_the_morning && asked <= today {
            return Err(ShareError::EndsBeforeItBegins);
        }
        self.asking_for(asked)
    }

    fn asking_for(&self, asked: Date) -> Result<LastDay, ShareError> {
        let works_until = if self.ends_in_the_morning { asked.yesterday() } else { Ok(asked) };
        Ok(LastDay { asked, works_until: works_until.map_err(|_| ShareError::NoSuchDay)? })
    }

    /// Returns the day before one that the server refused, if that may be beyond the longest in the server's time zone.
    pub(super) fn shortened(&self, refused: LastDay) -> Option<LastDay> {
        let surely = after(self.earliest, self.days_max?).ok()?;
        let before = refused.asked.yesterday().ok()?;
        (refused.asked > surely).then(|| self.asking_for(before).ok())?
    }

    /// Returns whether a day that the server refused may be over in the server's time zone.
    pub(super) fn may_be_over(&self, refused: LastDay) -> bool {
        refused.asked < self.latest || (self.ends_in_the_morning && refused.asked == self.latest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 28);

    #[test]
    fn a_link_works_for_whole_days_whatever_the_server_makes_of_its_day() {
        let calendar = |major, days_max| Calendar {
            today: TODAY,
            earliest: TODAY,
            latest: TODAY,
            ends_in_the_morning: major <= ENDS_IN_THE_MORNING,
            days_max,
        };
        let asked = |end, major, most| calendar(major, most).last_day(end).map(|day| day.asked);
        let (week, day) = (End::AfterDays(7), End::On(date(2026, 12, 5)));
        for end in [week, day] {
            for major in 28..=32 {
                assert_eq!(asked(end, major, None).unwrap(), date(2026, 12, 6));
                assert_eq!(asked(end, major, Some(30)).unwrap(), date(2026, 12, 6));
                assert_eq!(
                    asked(end, major, Some(7)).unwrap(),
                    date(2026, 12, 5),
                    "the server permits no more"
                );
            }
            for major in [33, 34] {
                assert_eq!(asked(end, major, None).unwrap(), date(2026, 12, 5));
                assert_eq!(asked(end, major, Some(7)).unwrap(), date(2026, 12, 5));
            }
            for major in [28, 34] {
                let refused = asked(end, major, Some(6)).unwrap_err();
                assert!(matches!(refused, ShareError::TooManyDays { days: 6 }));
            }
        }
        let works = |major, most| calendar(major, most).last_day(week).unwrap().works_until;
        assert_eq!((works(28, None), works(34, Some(7))), (date(2026, 12, 5), date(2026, 12, 5)));
        assert_eq!(works(28, Some(7)), date(2026, 12, 4), "some hours of the last day are missing");
        assert_eq!(asked(End::On(TODAY), 34, None).unwrap(), TODAY);
        assert_eq!(asked(End::On(TODAY), 28, None).unwrap(), date(2026, 11, 29));
        for end in [End::AfterDays(0), End::AfterDays(-1), End::On(date(2026, 11, 27))] {
            assert!(matches!(asked(end, 34, None), Err(ShareError::EndsBeforeItBegins)));
        }
        assert!(matches!(asked(End::AfterDays(i32::MAX), 34, None), Err(ShareError::NoSuchDay)));
        assert!(asked(week, 34, Some(i32::MAX)).is_ok());
        assert!(matches!(asked(End::AfterDays(i32::MAX), 34, Some(7)), Err(ShareError::TooManyDays { .. })));
    }
}

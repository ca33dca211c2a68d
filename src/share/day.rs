//! On which day a link ends.
//!
//! Up to version 32 a link ends at 00:00 at the beginning of the day that is asked for, on 34 at its end. A person who
//! says "7 days" wants the link to work for seven whole days, and who names a day wants it to work on that day.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Zoned};

use super::error::ShareError;

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

/// Returns the day on this machine's calendar.
pub(super) fn today() -> Date {
    Zoned::now().date()
}

/// Returns whether a server that was asked for a day may have made this of it: zones differ by less than a day.
pub(super) fn is_as_asked(ends: DateTime, asked: Date) -> bool {
    asked.yesterday().is_ok_and(|earliest| ends.date() >= earliest)
        && asked.tomorrow().is_ok_and(|latest| ends.date() <= latest)
}

/// Returns what to ask a server of this version for, which permits links for `days_max` days.
pub(super) fn last_day(
    end: End,
    today: Date,
    major: u32,
    days_max: Option<i32>,
) -> Result<LastDay, ShareError> {
    let after = |days: i32| {
        let span = Span::new().try_days(days).map_err(|_| ShareError::NoSuchDay)?;
        today.checked_add(span).map_err(|_| ShareError::NoSuchDay)
    };
    let works_until = match end {
        End::AfterDays(days) if days < 1 => return Err(ShareError::EndsBeforeItBegins),
        End::AfterDays(days) => match after(days) {
            Ok(day) => day,
            Err(_) => {
                return Err(days_max.map_or(ShareError::NoSuchDay, |days| ShareError::TooManyDays { days }));
            }
        },
        End::On(day) if day < today => return Err(ShareError::EndsBeforeItBegins),
        End::On(day) => day,
    };
    // What is longer than the calendar is no bound.
    let longest = days_max.and_then(|days| after(days).ok());
    if let (Some(days), Some(longest)) = (days_max, longest)
        && works_until > longest
    {
        return Err(ShareError::TooManyDays { days });
    }
    let ends_in_the_morning = major <= ENDS_IN_THE_MORNING;
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
    let works_until = if ends_in_the_morning { asked.yesterday().unwrap_or(today) } else { works_until };
    Ok(LastDay { asked, works_until })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 28);

    #[test]
    fn a_link_works_for_whole_days_whatever_the_server_makes_of_its_day() {
        let asked = |end, major, most| last_day(end, TODAY, major, most).map(|day| day.asked);
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
        let works = |major, most| last_day(week, TODAY, major, most).unwrap().works_until;
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

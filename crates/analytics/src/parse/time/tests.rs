//! Timestamps of many loggers, and what is not one.

use super::*;

/// Reads a text that begins with a time, in the year 2024 when it states none.
fn read(text: &str) -> Option<(usize, i64)> {
    match scan(text.as_bytes())? {
        (end, Found::Moment(civil)) => Some((end, civil.instant(2024))),
        (end, Found::Epoch(micros)) => Some((end, micros)),
        (_, Found::Part) => None,
    }
}

#[test]
fn every_known_form_is_read_to_its_end() {
    for (text, expected) in [
        ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),
        ("2020-01-02T03:04:05.678901234+02:00", "2020-01-02T01:04:05.678901Z"),
        ("2020-01-02T03:04:05-0730", "2020-01-02T10:34:05Z"),
        ("2020-01-02 03:04:05 UTC", "2020-01-02T03:04:05Z"),
        ("2015-10-18 18:01:47,978", "2015-10-18T18:01:47.978Z"),
        ("2016-09-28 04:30:30", "2016-09-28T04:30:30Z"),
        ("2005-06-03-15.42.50.675872", "2005-06-03T15:42:50.675872Z"),
        ("2016/9/27:20:30:31.455", "2016-09-27T20:30:31.455Z"),
        ("081109 203615", "2008-11-09T20:36:15Z"),
        ("17/06/09 20:10:40", "2017-06-09T20:10:40Z"),
        ("06/29/17 20:10:40", "2017-06-29T20:10:40Z"),
        ("03/17 16:13:38", "2024-03-17T16:13:38Z"),
        ("03-17 16:13:38.811", "2024-03-17T16:13:38.811Z"),
        ("10.30 16:49:06", "2024-10-30T16:49:06Z"),
        ("01/02/2020 03:04:05 PM", "2020-01-02T15:04:05Z"),
        ("13/02/2020 03:04:05", "2020-02-13T03:04:05Z"),
        ("02.01.2020 03:04:05", "2020-01-02T03:04:05Z"),
        ("Dec 10 06:55:46", "2024-12-10T06:55:46Z"),
        ("Jul  1 09:00:55", "2024-07-01T09:00:55Z"),
        ("Jun 12, 2015 1:05:00 AM", "2015-06-12T01:05:00Z"),
        ("Sun Dec 04 04:47:44 2005", "2005-12-04T04:47:44Z"),
        ("Sun Dec 04 04:47:44.123456 2005", "2005-12-04T04:47:44.123456Z"),
        ("Sun, 04 Dec 2005 04:47:44 GMT", "2005-12-04T04:47:44Z"),
        ("10/Oct/2000:13:55:36 -0700", "2000-10-10T20:55:36Z"),
        ("04-Dec-2005 04:47:44.5", "2005-12-04T04:47:44.5Z"),
        ("20171223-22:15:29:606", "2017-12-23T22:15:29.606Z"),
        ("20200102T030405Z", "2020-01-02T03:04:05Z"),
        ("1117838570", "2005-06-03T22:42:50Z"),
        ("1117838570.25", "2005-06-03T22:42:50.25Z"),
        ("1577934245678", "2020-01-02T03:04:05.678Z"),
        ("1577934245678901", "2020-01-02T03:04:05.678901Z"),
        ("1577934245678901234", "2020-01-02T03:04:05.678901Z"),
        ("2024-02-29 12:00:00", "2024-02-29T12:00:00Z"),
    ] {
        let expected: jiff::Timestamp = expected.parse().unwrap();
        assert_eq!(read(text), Some((text.len(), expected.as_microsecond())), "{text}");
        let longer = format!("{text}] and more");
        assert_eq!(read(&longer), Some((text.len(), expected.as_microsecond())), "{longer}");
    }
}

#[test]
fn what_is_no_time_is_not_taken_for_one() {
    for text in [
        "",
        "1",
        "12345",
        "99/99 10:00:00",
        "2020-13-01 00:00:00",
        "2020-01-32 00:00:00",
        "Dec 10",
        "December",
        "Sunday",
        "10.250.19.102:54106",
        "2020-01-02abc",
        "99999999999",
        "0000000001",
        "May be",
        "12.30.45 x",
        "25:61:00",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_day_or_a_time_alone_is_only_a_part() {
    assert_eq!(scan(b"2005.06.03 x"), Some((10, Found::Part)));
    assert_eq!(scan(b"15:04:05.123 x"), Some((12, Found::Part)));
}

#[test]
fn a_number_after_a_time_without_year_stays_in_the_text() {
    assert_eq!(read("Dec 10 06:55:46 8080 open").map(|f| f.0), Some(15));
    assert_eq!(read("2020-01-02 03:04:05 -1 left").map(|f| f.0), Some(19));
}

#[test]
fn klog_gives_time_and_level() {
    let (end, civil, level) = scan_klog(b"W0102 15:04:05.000001 7 file.go:1] text").unwrap();
    assert_eq!((end, level), (21, super::super::Level::Warn));
    let expected: jiff::Timestamp = "2024-01-02T15:04:05.000001Z".parse().unwrap();
    assert_eq!(civil.instant(2024), expected.as_microsecond());
    assert!(scan_klog(b"I9902 15:04:05").is_none());
}

#[test]
fn a_log_without_years_rolls_over_at_new_year_and_back_for_stragglers() {
    let mut years = Years::starting(2023, None);
    let mut year_of = |month| {
        let civil = Civil { year: None, month, day: 1, micros: 0, offset: 0 };
        jiff::Timestamp::from_microsecond(years.place(&civil)).unwrap().to_string()[..4].to_owned()
    };
    assert_eq!(year_of(11), "2023");
    assert_eq!(year_of(12), "2023");
    assert_eq!(year_of(1), "2024");
    assert_eq!(year_of(12), "2023");
    assert_eq!(year_of(1), "2024");
}

#[test]
fn dates_without_a_year_are_not_placed_after_the_log_was_written() {
    let placed = |months: &[u32]| -> Vec<String> {
        let march = Civil { year: Some(2026), month: 3, day: 15, micros: 0, offset: 0 };
        let mut years = Years::starting(2026, Some(march.instant(0)));
        let mut place = |&month| {
            let civil = Civil { year: None, month, day: 1, micros: 0, offset: 0 };
            jiff::Timestamp::from_microsecond(years.place(&civil)).unwrap().to_string()[..7].to_owned()
        };
        months.iter().map(&mut place).collect()
    };
    assert_eq!(placed(&[12, 12]), ["2025-12", "2025-12"]);
    assert_eq!(placed(&[11, 12, 1, 3]), ["2025-11", "2025-12", "2026-01", "2026-03"]);
    let on = ["2026-02", "2026-03", "2025-05", "2025-09", "2025-12", "2026-01"];
    assert_eq!(placed(&[2, 3, 5, 9, 12, 1]), on);
}

#[test]
fn any_bytes_are_answered_without_a_panic() {
    let alphabet = b"0129:./-,TZ+ aJDecSun\xff";
    let mut state = 7u64;
    for _ in 0..200_000 {
        let mut text = [0u8; 24];
        for byte in &mut text {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = alphabet[(state >> 33) as usize % alphabet.len()];
        }
        if let Some((end, _)) = scan(&text) {
            assert!(end <= text.len());
        }
        scan_klog(&text);
    }
}

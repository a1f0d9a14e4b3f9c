//! Headers of many layouts, and what is not one.

use super::*;

/// The messages of a log's lines, with the level of each.
fn messages<'a>(lines: &[&'a str]) -> Vec<(&'a str, Option<Level>)> {
    let mut reader = HeaderReader::new(Years::starting(2024, None));
    lines
        .iter()
        .map(|line| {
            let header = reader.read(line.as_bytes());
            assert!(header.timed, "{line}");
            (&line[header.end..], header.level)
        })
        .collect()
}

#[test]
fn the_layouts_of_many_loggers_are_learnt_from_their_first_line_on() {
    for (header, level) in [
        ("[Sun Dec 04 04:47:44 2005] [notice] ", Some(Level::Info)),
        (
            "- 1117838570 2005.06.03 R02-M1-N0 2005-06-03-15.42.50.675872 R02-M1-N0 RAS KERNEL INFO ",
            Some(Level::Info),
        ),
        ("081109 203615 148 INFO dfs.DataNode$PacketResponder: ", Some(Level::Info)),
        (
            "2015-10-18 18:01:47,978 WARN [IPC Server handler 19 on 62270] org.apache.MRAppMaster: ",
            Some(Level::Warn),
        ),
        ("2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:2181:Fast@774] - ", Some(Level::Info)),
        ("Jul  1 09:00:55 calvisitor-10 kernel[0]: ", None),
        ("Dec 10 06:55:46 LabSZ sshd[24200]: ", None),
        ("<34>Oct 11 22:14:15 mymachine su: ", Some(Level::Fatal)),
        ("<165>1 2003-10-11T22:14:15.003Z machine.example.com evntslog 77 - - ", Some(Level::Info)),
        ("17/06/09 20:10:40 INFO executor.Backend: ", Some(Level::Info)),
        ("03-17 16:13:38.811  1702  2395 D WindowManager: ", Some(Level::Debug)),
        ("I0102 15:04:05.000000   12345 file.go:123] ", Some(Level::Info)),
        ("[2020-01-01T00:00:00Z INFO  mycrate::module] ", Some(Level::Info)),
        ("2020-01-01 10:00:00.123  INFO 1234 --- [           main] o.s.b.Foo   : ", Some(Level::Info)),
        ("2017-05-16 00:00:00.008 25746 INFO nova.wsgi [req-38101a0b - - -] ", Some(Level::Info)),
        ("2020-01-01 10:00:00.123 | ERROR    | module:func:12 - ", Some(Level::Error)),
        ("20171223-22:15:29:606|Step_LSC|30002312|", None),
        ("2020/01/01 10:00:00 [error] 123#123: ", Some(Level::Error)),
        ("10:15:30.123 [main] DEBUG com.foo.Bar - ", Some(Level::Debug)),
        ("- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond(pam_unix)[2915]: ", None),
    ] {
        let texts = ["connection from host refused", "closing down now", "user asked for block"];
        let lines: Vec<String> = texts.iter().cycle().take(12).map(|t| format!("{header}{t}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let expected: Vec<_> = texts.iter().cycle().take(12).map(|&t| (t, level)).collect();
        assert_eq!(messages(&lines), expected, "{header}");
    }
}

#[test]
fn what_only_some_messages_begin_with_stays_in_them() {
    let log = [
        "Dec 10 06:55:46 h sshd[1]: Invalid user",
        "Dec 10 06:55:46 h sshd[1]: error: Received disconnect",
        "Dec 10 06:55:46 h sshd[1]: fatal: Write failed",
        "Dec 10 06:55:46 h sshd[1]: [preauth] closed",
    ];
    let texts: Vec<_> = messages(&log).into_iter().map(|(text, _)| text).collect();
    assert_eq!(
        texts,
        ["Invalid user", "error: Received disconnect", "fatal: Write failed", "[preauth] closed"]
    );
}

#[test]
fn a_time_that_a_message_tells_of_is_not_its_header() {
    let mut reader = HeaderReader::new(Years::starting(2024, None));
    for _ in 0..20 {
        assert!(!reader.read(b"nothing to see here").timed);
    }
    let header = reader.read(b"session of 2020-01-02 03:04:05 ended");
    assert_eq!(header, Header::default());
}

#[test]
fn a_line_without_a_time_may_open_with_its_level() {
    let mut reader = HeaderReader::new(Years::starting(2024, None));
    for (line, end, level) in [
        ("ERROR disk full", 6, Some(Level::Error)),
        ("[warn] disk full", 7, Some(Level::Warn)),
        ("WARNING:root:disk full", 13, Some(Level::Warn)),
        ("error: disk full", 7, Some(Level::Error)),
        ("plain text", 0, None),
        ("", 0, None),
    ] {
        let header = reader.read(line.as_bytes());
        assert_eq!((header.end, header.level, header.timed), (end, level, false), "{line}");
    }
}

#[test]
fn a_log_may_change_its_layout() {
    let mut reader = HeaderReader::new(Years::starting(2024, None));
    for _ in 0..2_000 {
        let line = b"2020-01-01 00:00:00 INFO a.b.C: text";
        assert_eq!(&line[reader.read(line).end..], b"text");
    }
    let line = b"2020-01-01 00:00:00 INFO [thread] - text";
    let ends: Vec<_> = (0..200_000).map(|_| reader.read(line).end).collect();
    assert_eq!(&line[*ends.last().unwrap()..], b"text");
}

//! What every channel promises: the provider's form, its limits, and an answer that is read.

use http::HeaderMap;
use opsroom_core::egress::Response;
use serde_json::json;

use super::*;

fn target() -> Target {
    let mentions = vec!["13800000000".to_owned(), "ada".to_owned(), "all".to_owned()];
    Target { url: "https://x.example/hook".into(), secret: "demo".into(), mentions, ..Target::default() }
}

fn content() -> Content {
    Content {
        title: "disk full".to_owned(),
        text: "*db-1* <!channel> [x](http://evil)".to_owned(),
        level: Level::Critical,
        url: "https://grafana.example/d/1".to_owned(),
        fields: vec![("group".to_owned(), "{a=\"b\"}".to_owned())],
        actions: vec![("Acknowledge".to_owned(), "https://ops.example/l/1".to_owned())],
        ..Content::default()
    }
}

fn bodies(kind: ChannelKind, target: &Target, it: &Content) -> Vec<Value> {
    let now = Time(1_599_360_473_000_000);
    let requests = requests(kind, target, it, "id-1", now).unwrap();
    requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

#[test]
fn dingtalk_takes_markdown_and_calls_by_name_in_the_text_too() {
    let requests = requests(ChannelKind::Dingtalk, &target(), &content(), "1", Time(0)).unwrap();
    assert!(requests[0].url.starts_with("https://x.example/hook?timestamp=0&sign="), "{}", requests[0].url);
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["msgtype"], "markdown");
    assert_eq!(body["markdown"]["title"], "disk full");
    assert_eq!(body["at"], json!({ "atMobiles": ["13800000000"], "atUserIds": ["ada"], "isAtAll": true }));
    let text = body["markdown"]["text"].as_str().unwrap();
    assert!(text.ends_with("@13800000000 @ada @all"), "{text}");
    assert!(text.contains("\\*db-1\\*") && text.contains("[Acknowledge](https://ops.example/l/1)"), "{text}");
}

#[test]
fn wecom_takes_markdown_and_for_names_text() {
    let plain = Target { mentions: Vec::new(), ..target() };
    let body = &bodies(ChannelKind::Wecom, &plain, &content())[0];
    let text = body["markdown"]["content"].as_str().unwrap();
    assert!(text.starts_with("<font color=\"warning\">disk full</font>\n"), "{text}");
    assert!(!text.contains("<!channel>"));
    let body = &bodies(ChannelKind::Wecom, &target(), &content())[0];
    assert_eq!(body["msgtype"], "text");
    assert_eq!(body["text"]["mentioned_list"], json!(["ada", "@all"]));
    assert_eq!(body["text"]["mentioned_mobile_list"], json!(["13800000000"]));
}

#[test]
fn feishu_takes_a_signed_card() {
    let body = &bodies(ChannelKind::Feishu, &target(), &content())[0];
    assert_eq!((&body["timestamp"], &body["msg_type"]), (&json!("1599360473"), &json!("interactive")));
    assert_eq!(body["sign"], "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
    assert_eq!(body["card"]["header"]["template"], "red");
    assert_eq!(body["card"]["header"]["title"], json!({ "tag": "plain_text", "content": "disk full" }));
    assert_eq!(body["card"]["elements"][1]["actions"][1]["url"], "https://ops.example/l/1");
}

#[test]
fn slack_takes_blocks_and_no_text_calls_a_channel() {
    let body = &bodies(ChannelKind::Slack, &target(), &content())[0];
    assert_eq!(body["text"], "disk full");
    let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(
        text.contains("&lt;!channel&gt;") && text.contains("<https://ops.example/l/1|Acknowledge>"),
        "{text}"
    );
}

#[test]
fn a_plain_webhook_is_signed_over_time_and_body_and_names_its_message() {
    let requests = requests(ChannelKind::Webhook, &target(), &content(), "id-1", Time(5_000_000)).unwrap();
    let headers = &requests[0].headers;
    assert_eq!(headers["idempotency-key"], "id-1");
    assert_eq!(headers["content-type"], "application/json");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"demo");
    let text = format!("5.{}", std::str::from_utf8(&requests[0].body).unwrap());
    let tag = opsroom_core::id::hex(ring::hmac::sign(&key, text.as_bytes()).as_ref());
    assert_eq!(headers["x-opsroom-signature"], format!("sha256={tag}"));
}

#[test]
fn nothing_is_longer_than_its_provider_takes() {
    let long = "错\"<*é\n".repeat(8000);
    let it = Content {
        title: long.clone(),
        text: long.clone(),
        fields: vec![(long.clone(), long); 20],
        ..content()
    };
    for kind in [ChannelKind::Dingtalk, ChannelKind::Wecom, ChannelKind::Feishu] {
        for target in [target(), Target { mentions: Vec::new(), ..target() }] {
            let all = bodies(kind, &target, &it);
            assert!(all.len() > 1);
            for body in all {
                let (length, most) = match kind {
                    ChannelKind::Dingtalk => (body.to_string().len(), 20_000),
                    ChannelKind::Feishu => (body.to_string().len(), 20 << 10),
                    _ if body["msgtype"] == "text" => (body["text"]["content"].as_str().unwrap().len(), 2048),
                    _ => (body["markdown"]["content"].as_str().unwrap().len(), 4096),
                };
                assert!(length <= most, "{kind:?}: {length}");
            }
        }
    }
    for body in bodies(ChannelKind::Slack, &target(), &it) {
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        assert!(blocks.iter().all(|it| it["text"]["text"].as_str().unwrap().chars().count() <= 3000));
    }
    for body in bodies(ChannelKind::Discord, &target(), &it) {
        let embed = &body["embeds"][0];
        let fields =
            embed["fields"].as_array().into_iter().flatten().flat_map(|it| [&it["name"], &it["value"]]);
        let texts = fields.chain([&embed["title"], &embed["description"]]).filter_map(Value::as_str);
        assert!(texts.map(|text| text.chars().count()).sum::<usize>() <= 6000);
        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
    }
}

#[test]
fn an_answer_of_200_with_an_error_is_no_success() {
    let judge = |kind, status: u16, body: &str| {
        let response = Response {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
            url: "https://x.example/".parse().unwrap(),
        };
        judge(kind, &response)
    };
    use ChannelKind::{Dingtalk, Discord, Feishu, Slack, Wecom};
    let is_later = |outcome| matches!(outcome, Outcome::Later(..));
    let is_never = |outcome| matches!(outcome, Outcome::Never(..));
    assert_eq!(judge(Dingtalk, 200, "{\"errcode\":0,\"errmsg\":\"ok\"}"), Outcome::Sent);
    assert!(is_never(judge(Dingtalk, 200, "{\"errcode\":310000,\"errmsg\":\"sign not match\"}")));
    assert!(is_later(judge(Dingtalk, 200, "{\"errcode\":130101}")));
    assert!(is_later(judge(Dingtalk, 200, "<html>garbage</html>")));
    assert!(is_later(judge(Wecom, 200, "{\"errcode\":45009}")));
    assert!(is_never(judge(Wecom, 200, "{\"errcode\":93000}")));
    assert_eq!(judge(Feishu, 200, "{\"code\":0}"), Outcome::Sent);
    assert_eq!(judge(Feishu, 200, "{\"StatusCode\":0,\"StatusMessage\":\"success\"}"), Outcome::Sent);
    assert!(is_never(judge(Feishu, 200, "{\"code\":19021,\"msg\":\"sign match fail\"}")));
    assert!(is_later(judge(Feishu, 200, "{\"code\":11232}")));
    assert_eq!(judge(Slack, 200, "ok"), Outcome::Sent);
    assert!(is_never(judge(Slack, 200, "invalid_payload")));
    assert_eq!(judge(Discord, 204, ""), Outcome::Sent);
    assert_eq!(
        judge(Discord, 429, "{\"retry_after\":1.2}"),
        Outcome::Later(Some(2), "the webhook answered 429".to_owned())
    );
    assert!(is_never(judge(Slack, 404, "")));
    assert!(is_later(judge(Slack, 500, "")));
}

#[test]
fn a_target_comes_out_of_its_seal_as_it_went_in() {
    let smtp =
        SmtpConfig { host: "mx.example".to_owned(), password: "hunter2".into(), ..SmtpConfig::default() };
    let target = Target { smtp: Some(smtp), ..target() };
    assert_eq!(Target::of_plain(&target.to_plain().unwrap()).unwrap(), target);
    assert!(!format!("{target:?}").contains("hunter2"));
}

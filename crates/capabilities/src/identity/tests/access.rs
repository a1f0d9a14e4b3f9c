//! Keys that are rotated, who may do what, and the trail as a file.

use opsroom_core::files::Roots;

use super::*;

async fn opens(room: &Room, key: &str) -> bool {
    room.identity.authenticate(key, Face::Rest, None).await.is_ok()
}

#[tokio::test]
async fn a_rotated_key_may_do_the_same_and_the_old_one_ends_with_the_overlap() {
    for room in rooms().await {
        let input = json!({ "name": "ci", "role": "operator", "scopes": ["logs:*"], "expires_in_days": 30 });
        let (old, id, _) = room.key(&operator(), input).await;
        room.clock.advance_seconds(10 * 86_400);
        let input = json!({ "id": id, "overlap_seconds": 3600 });
        let rotated = room.call(&operator(), "rotate_api_key", input).await.unwrap();
        let new = rotated["key"].as_str().unwrap();
        assert!(opens(&room, &old).await && opens(&room, new).await, "both, while they overlap");
        let caller = room.identity.authenticate(new, Face::Rest, None).await.unwrap();
        assert_eq!(
            (caller.name.as_str(), caller.role, caller.scopes),
            ("ci", Role::Operator, scopes(&["logs:*"]))
        );
        let ends = START.plus_seconds(10 * 86_400 + 3600).to_rfc3339();
        assert_eq!(rotated["previous"]["expires_at"], json!(ends));
        let ends = START.plus_seconds(40 * 86_400).to_rfc3339();
        assert_eq!(rotated["api_key"]["expires_at"], json!(ends), "as long as the old one was made for");
        room.clock.advance_seconds(3600);
        assert!(!opens(&room, &old).await && opens(&room, new).await);
        let again = room.call(&operator(), "rotate_api_key", json!({ "id": id })).await.unwrap_err();
        assert_eq!(again.kind, Kind::Conflict, "it opens nothing any more");
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_without_an_overlap_ends_at_once() {
    let room = Room::new(sqlite().await).await;
    let (old, id, _) = room.key(&operator(), json!({ "name": "ci" })).await;
    room.call(&operator(), "rotate_api_key", json!({ "id": id, "overlap_seconds": 0 })).await.unwrap();
    assert!(!opens(&room, &old).await);
}

#[tokio::test]
async fn idor_rotation_gives_nobody_a_key_that_they_could_not_make() {
    for room in rooms().await {
        let (_, strong, _) = room.key(&operator(), json!({ "name": "root", "role": "administrator" })).await;
        let input = json!({ "name": "keeper", "role": "administrator", "scopes": ["identity:*"] });
        let (_, _, keeper) = room.key(&operator(), input).await;
        let error = room.call(&keeper, "rotate_api_key", json!({ "id": strong })).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{error}");
        let other = Caller { teams: vec!["payments".to_owned()], ..operator() };
        let error = room.call(&other, "rotate_api_key", json!({ "id": strong })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound, "{error}");
        let (_, gone, _) = room.key(&operator(), json!({ "name": "gone" })).await;
        room.call(&operator(), "revoke_api_key", json!({ "id": gone })).await.unwrap();
        let error = room.call(&operator(), "rotate_api_key", json!({ "id": gone })).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{error}");
    }
}

#[tokio::test]
async fn who_may_do_something_is_told_with_the_rule_that_says_so() {
    for room in rooms().await {
        room.identity.set_operations(room.identity.capability().operations);
        let key =
            |name: &str, role: &str, scopes: Value| json!({ "name": name, "role": role, "scopes": scopes });
        let make = async |input| room.key(&operator(), input).await.1;
        let given = make(key("given", "administrator", json!(["identity:read"]))).await;
        let denied = make(key("denied", "administrator", json!(["*", "!identity:list_audit"]))).await;
        let narrow = make(key("narrow", "administrator", json!(["logs:*"]))).await;
        let low = make(json!({ "name": "low", "role": "viewer" })).await;
        let about = async |subject: String| {
            let input = json!({ "operation": "list_audit", "subject": subject });
            room.call(&operator(), "explain_access", input).await.unwrap()["items"][0].clone()
        };
        for (id, allowed, scope, words) in [
            (&given, true, json!("identity:read"), "gives it"),
            (&denied, false, json!("!identity:list_audit"), "takes it away"),
            (&narrow, false, json!(null), "none of theirs"),
            (&low, false, json!(null), "needs the role administrator"),
        ] {
            let told = about(format!("key:{id}")).await;
            assert_eq!((&told["allowed"], &told["scope"]), (&json!(allowed), &scope), "{told}");
            assert!(told["because"].as_str().unwrap().contains(words), "{told}");
            // What is told is what happens.
            let caller = room.identity.caller_of(&format!("key:{id}"), Face::Rest).unwrap();
            assert_eq!(room.call(&caller, "list_audit", json!({})).await.is_ok(), allowed, "{told}");
        }
        assert!(
            about("operator".to_owned()).await["because"].as_str().unwrap().contains("nothing narrows it")
        );
        let everybody =
            room.call(&operator(), "explain_access", json!({ "operation": "list_audit" })).await.unwrap();
        let names: Vec<&str> = everybody["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["given", "operator"]);
        let page = json!({ "operation": "list_audit", "limit": 1 });
        let page = room.call(&operator(), "explain_access", page).await.unwrap();
        let next = json!({ "operation": "list_audit", "limit": 1, "cursor": page["next"] });
        let next = room.call(&operator(), "explain_access", next).await.unwrap();
        assert_eq!((&next["items"][0]["name"], &next["next"]), (&json!("operator"), &json!(null)));
    }
}

#[tokio::test]
async fn nobody_is_told_about_who_is_not_there_or_is_of_another_team() {
    let room = Room::new(sqlite().await).await;
    room.identity.set_operations(room.identity.capability().operations);
    let (_, id, _) = room.key(&operator(), json!({ "name": "ci" })).await;
    let other = Caller { teams: vec!["payments".to_owned()], ..operator() };
    let subject = format!("key:{id}");
    for (caller, input, kind) in [
        (&other, json!({ "operation": "list_audit", "subject": subject }), Kind::NotFound),
        (&operator(), json!({ "operation": "list_audit", "subject": "user:nobody" }), Kind::NotFound),
        (&operator(), json!({ "operation": "no_such" }), Kind::NotFound),
        (&operator(), json!({ "operation": "list_audit", "resource": "x" }), Kind::Invalid),
    ] {
        let error = room.call(caller, "explain_access", input.clone()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{input}");
    }
}

#[tokio::test]
async fn the_trail_is_exported_whole_and_a_formula_in_it_is_text() {
    for room in rooms().await {
        let folder = room.test.folder.path().join("files");
        set_mode_of_new(&folder, 0o700);
        let identity = room.identity.clone().with_files(Roots::new(std::slice::from_ref(&folder)).unwrap());
        let hostile = Caller { name: "=HYPERLINK(\"http://evil.example\")".to_owned(), ..operator() };
        for n in 0..3 {
            let entry = AuditEntry::action(&hostile, "test", Effect::Write, &json!({ "n": n }));
            identity.audit(entry.ok()).await.unwrap();
        }
        let other = Caller { teams: vec!["payments".to_owned()], ..operator() };
        identity.audit(AuditEntry::action(&other, "test", Effect::Write, &json!({})).ok()).await.unwrap();
        let input = json!({ "path": "a.ndjson", "operation": "test" });
        let done = call(&identity, &operator(), "export_audit", input.clone()).await.unwrap();
        assert_eq!(
            (&done["records"], &done["newest_seq"], &done["oldest_seq"]),
            (&json!(3), &json!(3), &json!(1))
        );
        let text = std::fs::read_to_string(folder.join("a.ndjson")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let listed =
            call(&identity, &operator(), "list_audit", json!({ "operation": "test" })).await.unwrap();
        assert_eq!(json!(lines), listed["items"], "as it is listed");
        let again = call(&identity, &operator(), "export_audit", input).await.unwrap_err();
        assert_eq!(again.kind, Kind::Conflict, "what is there is not replaced");
        let input = json!({ "path": "a.csv", "format": "csv" });
        call(&identity, &operator(), "export_audit", input).await.unwrap();
        let text = std::fs::read_to_string(folder.join("a.csv")).unwrap();
        assert!(text.starts_with("seq,time,team_id,subject,name,"), "{text}");
        assert!(text.contains("\"'=HYPERLINK(\"\"http://evil.example\"\")\""), "{text}");
        assert!(!text.contains("payments"), "{text}");
        let out = json!({ "path": "../a.csv" });
        assert!(call(&identity, &operator(), "export_audit", out).await.is_err());
    }
}

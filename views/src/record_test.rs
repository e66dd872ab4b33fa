use proto::Tombstone;

use super::*;
use crate::show::Shape;
use crate::show::tests::shown;

fn stamp(early_us: u32, late_us: u32) -> Vec<u8> {
    // 2026-11-21T01:30:45.123456789Z
    let hlc = Hlc { ns: 1_795_224_645_123_456_789, logical: 42 };
    Stamp { hlc, early_us, late_us }.to_bytes().to_vec()
}

fn record() -> Record {
    let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
    Record {
        shard: 1,
        seq: 7,
        stamp: stamp(1900, 800),
        from: "alice".into(),
        to: "bob".into(),
        id: "order-7".into(),
        headers: vec![header("z", "1"), header("a", "2"), header("z", "3")],
        body: "hello\tbob\n".into(),
        gateway: "n2".into(),
        ..Record::default()
    }
}

fn view(record: Record) -> RecordView {
    RecordView::try_from(record).unwrap()
}

fn ndjson<T: Show>(item: T) -> String {
    shown(Shape::Ndjson, &[item])
}

#[test]
fn a_record_has_exactly_these_fields() {
    assert_eq!(
        ndjson(view(record())),
        concat!(
            r#"{"seq":7,"stamp":"2026-11-21T01:30:45.123456789Z~0000002a","#,
            r#""earliest":"2026-11-21T01:30:45.121556789Z","#,
            r#""latest":"2026-11-21T01:30:45.124256789Z","#,
            r#""from":"alice","proof":null,"to":"bob","id":"order-7","#,
            r#""headers":{"z":"1, 3","a":"2"},"#,
            r#""gateway":"n2","body":"hello\tbob\n"}"#,
            "\n"
        )
    );
}

/// Meant to catch: a message of a token shown as one of a certificate.
#[test]
fn a_record_says_how_its_sender_was_proven() {
    let by = |proof: Proof| Record { fingerprint: proof.to_bytes().to_vec(), ..record() };
    let said = |proof: Proof| ndjson(view(by(proof)));
    let token = Proof::Token([0; 8]);
    assert!(said(token).contains(r#""proof":"token aaaaaaaaaaaaa""#), "{}", said(token));
    let key = Proof::Certificate([0xab; 32]);
    let text = format!(r#""proof":"certificate {}""#, "ab".repeat(32));
    assert!(said(key).contains(&text), "{}", said(key));
    assert!(said(Proof::Node).contains(r#""proof":"node""#));
    let table = |proof: Proof| shown(Shape::Table, &[view(by(proof))]);
    assert!(table(token).contains("alice (token)") && !table(key).contains("(token)"));
}

#[test]
fn unknown_bounds_are_null_and_bytes_are_base64() {
    let record = Record {
        stamp: stamp(Stamp::UNKNOWN, Stamp::UNKNOWN),
        headers: Vec::new(),
        body: vec![0xff, 0x00].into(),
        ..record()
    };
    assert_eq!(
        ndjson(view(record)),
        concat!(
            r#"{"seq":7,"stamp":"2026-11-21T01:30:45.123456789Z~0000002a","#,
            r#""earliest":null,"latest":null,"from":"alice","proof":null,"to":"bob","id":"order-7","#,
            r#""headers":{},"gateway":"n2","body_b64":"/wA="}"#,
            "\n"
        )
    );
}

#[test]
fn a_deleted_record_has_no_body_and_says_by_whom() {
    let tombstone = Tombstone { by: "admin".into(), stamp: stamp(0, 0), reason: "spam".into() };
    let record = Record {
        deleted: Some(tombstone),
        body: Vec::new().into(),
        headers: Vec::new(),
        ..record()
    };
    let view = view(record);
    assert_eq!(view.body(), None);
    assert_eq!(
        shown(Shape::Plain, &[view]),
        "7\t2026-11-21T01:30:45.123456789Z~0000002a\talice\tbob\torder-7\t(deleted by admin at \
         2026-11-21T01:30:45.123456789Z~0000002a: spam)\n"
    );
    let tombstone = Tombstone { by: "admin".into(), stamp: stamp(0, 0), reason: "spam".into() };
    let text = ndjson(self::view(Record { deleted: Some(tombstone), ..self::record() }));
    assert!(
        text.ends_with(concat!(
            r#""body":null,"deleted":{"by":"admin","#,
            r#""stamp":"2026-11-21T01:30:45.123456789Z~0000002a","reason":"spam"}}"#,
            "\n"
        )),
        "{text}"
    );
}

#[test]
fn records_for_people_and_for_pipes() {
    assert_eq!(
        shown(Shape::Table, &[view(record())]),
        "SEQ  STAMP                                    FROM   TO   BODY\n\
         7    2026-11-21 01:30:45.123456 -1.9/+0.8 ms  alice  bob  hello\\tbob\\n\n"
    );
    assert_eq!(
        shown(Shape::Plain, &[view(record())]),
        "7\t2026-11-21T01:30:45.123456789Z~0000002a\talice\tbob\torder-7\thello\\tbob\\n\n"
    );
}

#[test]
fn a_record_whose_order_is_unknown_is_marked() {
    let listed = |overlaps, times: &[Times]| {
        RecordView::listed(record(), Some(overlaps), times, None).unwrap()
    };
    let plain = |view| shown(Shape::Plain, &[view]);
    assert_eq!(
        plain(listed(true, &[])),
        "7\t~2026-11-21T01:30:45.123456789Z~0000002a\talice\tbob\torder-7\thello\\tbob\\n\n"
    );
    assert_eq!(plain(listed(false, &[])), plain(view(record())));
    let table = shown(Shape::Table, &[listed(true, &[])]);
    assert!(table.contains("7    ~2026-11-21 01:30:45.123456 -1.9/+0.8 ms  alice"), "{table}");
    let json = ndjson(listed(true, &[]));
    assert!(json.contains(r#""latest":"2026-11-21T01:30:45.124256789Z","order_certain":false,"#));
    assert!(ndjson(listed(false, &[])).contains(r#""order_certain":true"#));
}

#[test]
fn times_are_shown_as_wanted() {
    let times = [Times::Utc, Times::Eps, Times::Hlc];
    let listed = |overlaps| RecordView::listed(record(), Some(overlaps), &times, None).unwrap();
    assert_eq!(
        shown(Shape::Plain, &[listed(false)]),
        "7\t2026-11-21T01:30:45.123456789Z\t-1.9/+0.8 ms\t\
         2026-11-21T01:30:45.123456789Z~0000002a\talice\tbob\torder-7\thello\\tbob\\n\n"
    );
    let table = shown(Shape::Table, &[listed(true)]);
    assert!(
        table.contains("~2026-11-21T01:30:45.123456789Z -1.9/+0.8 ms 2026-11-21T01:30:45"),
        "{table}"
    );
}

#[test]
fn short_stamps_never_claim_too_much() {
    let short = |early_us, late_us| {
        short_stamp(Stamp { hlc: Hlc::from_ns(1_795_224_645_000_000_001), early_us, late_us })
    };
    assert_eq!(short(0, 1), "01:30:45.000000 -0.0/+0.1 ms");
    assert_eq!(short(1901, 800), "01:30:45.000000 -2.0/+0.8 ms");
    assert_eq!(short(Stamp::UNKNOWN, 800), "01:30:45.000000 ±unknown");
}

#[test]
fn an_acknowledgement_has_exactly_these_fields() {
    let ack = |stamp| Ack {
        shard: 1,
        seq: 7,
        stamp,
        primary: "n1".into(),
        gateway: "n2".into(),
        id: "order-7".into(),
        duplicate: true,
        index: 9,
    };
    let text = ndjson(AckView::try_from(ack(stamp(1900, 800))).unwrap());
    assert_eq!(
        text,
        concat!(
            r#"{"id":"order-7","shard":1,"seq":7,"#,
            r#""stamp":"2026-11-21T01:30:45.123456789Z~0000002a","#,
            r#""earliest":"2026-11-21T01:30:45.121556789Z","#,
            r#""latest":"2026-11-21T01:30:45.124256789Z","#,
            r#""primary":"n1","gateway":"n2","duplicate":true}"#,
            "\n"
        )
    );
    let error = AckView::try_from(ack(vec![1, 2, 3])).unwrap_err();
    assert!(error.0.contains("3 bytes"), "{error}");
}

/// Meant to catch: the date of midnight taken from the wrong side: a second before it is another day.
#[test]
fn the_date_is_shown_when_it_is_not_today() {
    let at = |now_ns| {
        let view = RecordView::listed(record(), None, &[], now_ns).unwrap();
        shown(Shape::Table, &[view])
    };
    let midnight = 1_795_219_200_000_000_000;
    for today in [midnight, midnight + 86_399_999_999_999] {
        assert!(at(Some(today)).contains("7    01:30:45.123456 "), "{}", at(Some(today)));
    }
    for other in [Some(midnight - 1), Some(midnight + 86_400_000_000_000), None] {
        assert!(at(other).contains("7    2026-11-21 01:30:45.123456 "), "{}", at(other));
    }
}

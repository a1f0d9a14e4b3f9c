//! What the parts of the shop write: requests, clockworks, and the pool that runs dry.

use jiff::Timestamp;

use super::numbers::Numbers;

/// How many things write by the clock alone.
pub(super) const CLOCKWORKS: usize = 5;
const POOL: i64 = 8;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    level: &'static str,
    service: &'static str,
    id: String,
    text: String,
    trace: &'static [&'static str],
}

impl Entry {
    fn new(level: &'static str, service: &'static str, id: &str, text: String) -> Self {
        Self { level, service, id: id.to_owned(), text, trace: &[] }
    }

    /// The record's lines at this many milliseconds after the start.
    pub(super) fn write(&self, start: Timestamp, at: i64, line: &mut Vec<u8>) {
        let micros = start.as_microsecond() + at * 1_000;
        let time = Timestamp::from_microsecond(micros).unwrap_or(start);
        let time = jiff::tz::TimeZone::UTC.to_datetime(time);
        line.extend_from_slice(
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} {:<5} {:<6} ",
                time.year(),
                time.month(),
                time.day(),
                time.hour(),
                time.minute(),
                time.second(),
                time.millisecond(),
                self.level,
                self.service
            )
            .as_bytes(),
        );
        if !self.id.is_empty() {
            line.extend_from_slice(format!("[{}] ", self.id).as_bytes());
        }
        line.extend_from_slice(self.text.as_bytes());
        line.push(b'\n');
        for frame in self.trace {
            line.extend_from_slice(frame.as_bytes());
            line.push(b'\n');
        }
    }
}

/// Records that belong together, each so many milliseconds after the one before it.
#[derive(Default)]
pub(super) struct Story {
    pub(super) id: String,
    pub(super) entries: Vec<(i64, Entry)>,
    pub(super) leaks: bool,
    pub(super) starves: bool,
}

impl Story {
    fn say(&mut self, pause: i64, level: &'static str, service: &'static str, text: String) {
        self.entries.push((pause, Entry::new(level, service, &self.id, text)));
    }

    fn trace(&mut self, trace: &'static [&'static str]) {
        if let Some((_, last)) = self.entries.last_mut() {
            last.trace = trace;
        }
    }

    fn took(&self) -> i64 {
        self.entries.iter().map(|(pause, _)| pause).sum()
    }
}

const STARVED: &[&str] = &[
    "shop.db.PoolTimeout: no connection within 5000 ms",
    "\tat shop.db.Pool.acquire(Pool.java:214)",
    "\tat shop.db.Session.open(Session.java:61)",
    "\tat shop.api.Handler.handle(Handler.java:132)",
    "\tat java.base/java.lang.Thread.run(Thread.java:840)",
];

const DECLINED: &[&str] = &[
    "shop.payment.Declined: insufficient funds",
    "\tat shop.payment.Client.charge(Client.java:88)",
    "\tat shop.api.Checkout.pay(Checkout.java:45)",
];

/// The database's pool of connections.
pub(super) struct Pool {
    /// How many searches keep their connection to one that loses it, once the fault is deployed.
    keeping: i64,
    /// How many searches come before the next one that loses its connection.
    until_next: i64,
    deployed: bool,
    lost: i64,
    dry_since: Option<i64>,
    next_connection: i64,
}

impl Pool {
    /// A pool that loses about fourteen connections in this many requests.
    pub(super) fn new(requests: u64) -> Self {
        // Sixteen requests in a hundred are searches, and the fault is there for six tenths of the time.
        let keeping = (requests as i64 * 16 / 100 * 6 / 10 / 14).max(2);
        Self {
            keeping,
            until_next: keeping / 2,
            deployed: false,
            lost: 0,
            dry_since: None,
            next_connection: 0,
        }
    }

    /// Whether version 2.14.1 forgets to give the connection of a search back.
    fn forgets(&mut self, numbers: &mut Numbers) -> bool {
        if !self.deployed || self.dry_since.is_some() {
            return false;
        }
        self.until_next -= 1;
        if self.until_next > 0 {
            return false;
        }
        self.until_next = numbers.between(self.keeping / 2, self.keeping * 3 / 2);
        self.lost += 1;
        true
    }

    /// What happens to the pool itself when this share of the requests is served.
    pub(super) fn events(&mut self, share: f64, now: i64, numbers: &mut Numbers) -> Vec<Story> {
        let mut events = Vec::new();
        if !self.deployed && share >= 0.4 {
            self.deployed = true;
            let mut story = Story::default();
            story.say(0, "INFO", "api", "stopping version 2.14.0: draining requests".to_owned());
            story.say(numbers.took(900), "INFO", "api", "started version 2.14.1 on port 8080".to_owned());
            events.push(story);
        }
        if self.lost >= POOL && self.dry_since.is_none() {
            self.dry_since = Some(now);
        }
        if self.dry_since.is_some_and(|since| now - since > 120_000) {
            let mut story = Story::default();
            let text = format!("pool recycled: {} connections were older than 1800 s", self.lost);
            story.say(0, "INFO", "db", text);
            events.push(story);
            (self.lost, self.dry_since) = (0, None);
        }
        events
    }

    fn in_use(&self, numbers: &mut Numbers) -> i64 {
        (self.lost + numbers.between(1, 4)).min(POOL)
    }

    /// Takes a connection for a request; `None` when none comes free in time.
    fn acquire(&mut self, story: &mut Story, numbers: &mut Numbers) -> Option<i64> {
        let in_use = self.in_use(numbers);
        if self.dry_since.is_some() && numbers.happens(750) {
            let text = format!("waiting for a connection ({POOL} of {POOL} in use)");
            story.say(numbers.took(3), "DEBUG", "db", text);
            story.say(5_000, "ERROR", "db", "no connection within 5000 ms".to_owned());
            story.trace(STARVED);
            story.say(numbers.took(3), "INFO", "api", format!("503 in {} ms", story.took() + 2));
            story.starves = true;
            return None;
        }
        self.next_connection = self.next_connection % POOL + 1;
        let connection = self.next_connection;
        let text = format!("acquired connection {connection} ({in_use} of {POOL} in use)");
        story.say(numbers.took(2), "DEBUG", "db", text);
        Some(connection)
    }
}

/// What the shop says when it starts.
pub(super) fn start_up() -> Story {
    let mut story = Story::default();
    story.say(0, "INFO", "api", "started version 2.14.0 on port 8080".to_owned());
    story.say(40, "INFO", "db", format!("pool ready: {POOL} connections to shop at 10.0.8.2:5432"));
    story.say(25, "INFO", "cache", "connected to 10.0.8.3:6379".to_owned());
    story.say(60, "INFO", "worker", "consuming queue mail with 4 consumers".to_owned());
    story.say(30, "INFO", "cron", "loaded 3 jobs".to_owned());
    story
}

/// What is written by the clock, and when it is written next.
pub(super) fn clockwork(which: usize, numbers: &mut Numbers, pool: &Pool) -> (Story, i64) {
    let mut story = Story::default();
    let pause = match which {
        0 => {
            let (hits, misses) = (numbers.between(300, 900), numbers.between(40, 160));
            let evicted = numbers.between(0, 12);
            let text = format!("stats: {hits} hits, {misses} misses, {evicted} evicted in 60 s");
            story.say(0, "INFO", "cache", text);
            60_000
        }
        1 => {
            story.say(0, "DEBUG", "worker", format!("queue mail has {} jobs", numbers.between(0, 5)));
            30_000
        }
        2 => {
            story.say(0, "INFO", "cron", "job clean_carts started".to_owned());
            let removed = numbers.between(0, 60);
            let took = numbers.took(240);
            story.say(took, "INFO", "cron", format!("job clean_carts removed {removed} carts in {took} ms"));
            300_000
        }
        3 => {
            let (buffers, took) = (numbers.between(200, 1_800), numbers.took(700));
            let text = format!("checkpoint complete: wrote {buffers} buffers in {took} ms");
            story.say(0, "INFO", "db", text);
            300_000
        }
        _ => {
            let in_use = pool.in_use(numbers);
            story.say(0, "DEBUG", "db", format!("pool: {in_use} of {POOL} in use, 0 waiting"));
            60_000
        }
    };
    (story, pause)
}

/// One request, from its first line to its last.
pub(super) fn request(numbers: &mut Numbers, pool: &mut Pool) -> Story {
    let id = format!("req-{:012x}", numbers.next() >> 16);
    let mut story = Story { id, ..Story::default() };
    let status = match numbers.between(0, 999) {
        0..250 => home(&mut story, numbers),
        250..550 => view_order(&mut story, numbers, pool),
        550..710 => search(&mut story, numbers, pool),
        710..800 => place_order(&mut story, numbers, pool),
        800..900 => export(&mut story, numbers, pool),
        900..992 => login(&mut story, numbers, pool),
        _ => unknown_page(&mut story, numbers),
    };
    if let Some(status) = status {
        let pause = numbers.took(3);
        let text = format!("{status} in {} ms", story.took() + pause);
        // The worker goes on after the answer, so the answer may not be the last line.
        let at = story.entries.iter().position(|(_, entry)| entry.service == "worker");
        let entry = Entry::new("INFO", "api", &story.id, text);
        story.entries.insert(at.unwrap_or(story.entries.len()), (pause, entry));
    }
    story
}

fn arrive(story: &mut Story, numbers: &mut Numbers, method: &str, path: &str) {
    let address = format!("10.0.{}.{}", numbers.between(1, 4), numbers.between(2, 250));
    story.say(0, "INFO", "api", format!("{method} {path} from {address}"));
}

fn authenticated(story: &mut Story, numbers: &mut Numbers) {
    let user = numbers.between(1_000, 9_999);
    story.say(numbers.took(3), "DEBUG", "api", format!("user {user} authenticated by session cookie"));
}

/// Looks into the cache; whether it was there.
fn cached(story: &mut Story, numbers: &mut Numbers, key: &str, per_mille: i64) -> bool {
    let hit = numbers.happens(per_mille);
    let what = if hit { "hit" } else { "miss" };
    story.say(numbers.took(2), "DEBUG", "cache", format!("get {key}: {what}"));
    hit
}

fn query(story: &mut Story, numbers: &mut Numbers, name: &str, typical: i64) {
    let took = numbers.took(typical);
    let rows = numbers.between(1, 40);
    story.say(took, "DEBUG", "db", format!("query {name} took {took} ms, {rows} rows"));
    if took * 2 > typical * 5 {
        story.say(1, "WARN", "db", format!("slow query: {took} ms"));
    }
}

fn release(story: &mut Story, numbers: &mut Numbers, connection: i64) {
    story.say(numbers.took(2), "DEBUG", "db", format!("released connection {connection}"));
}

fn home(story: &mut Story, numbers: &mut Numbers) -> Option<u32> {
    arrive(story, numbers, "GET", "/");
    authenticated(story, numbers);
    cached(story, numbers, "page:home", 1_000);
    Some(200)
}

fn view_order(story: &mut Story, numbers: &mut Numbers, pool: &mut Pool) -> Option<u32> {
    let order = numbers.between(10_000, 99_999);
    arrive(story, numbers, "GET", &format!("/orders/{order}"));
    authenticated(story, numbers);
    let key = format!("order:{order}");
    if !cached(story, numbers, &key, 550) {
        let connection = pool.acquire(story, numbers)?;
        query(story, numbers, "select_order", 12);
        query(story, numbers, "select_items", 9);
        release(story, numbers, connection);
        story.say(numbers.took(2), "DEBUG", "cache", format!("set {key} for 300 s"));
    }
    Some(200)
}

fn search(story: &mut Story, numbers: &mut Numbers, pool: &mut Pool) -> Option<u32> {
    let word = numbers.choose(&["lamp", "desk", "chair", "mug", "bottle", "notebook", "cable"]);
    arrive(story, numbers, "GET", &format!("/search?q={word}"));
    authenticated(story, numbers);
    let connection = pool.acquire(story, numbers)?;
    query(story, numbers, "search_products", 45);
    if pool.forgets(numbers) {
        story.leaks = true;
    } else {
        release(story, numbers, connection);
    }
    Some(200)
}

fn place_order(story: &mut Story, numbers: &mut Numbers, pool: &mut Pool) -> Option<u32> {
    arrive(story, numbers, "POST", "/orders");
    authenticated(story, numbers);
    let connection = pool.acquire(story, numbers)?;
    query(story, numbers, "insert_order", 18);
    let declined = numbers.happens(150);
    if declined {
        story.say(numbers.took(300), "WARN", "api", "payment declined: insufficient funds".to_owned());
        story.trace(DECLINED);
        story.say(numbers.took(3), "DEBUG", "db", "transaction rolled back".to_owned());
    } else {
        let text = format!("payment {} accepted", numbers.between(100_000, 999_999));
        story.say(numbers.took(280), "INFO", "api", text);
        story.say(numbers.took(6), "DEBUG", "db", "transaction committed".to_owned());
    }
    release(story, numbers, connection);
    if declined {
        return Some(402);
    }
    let job = numbers.between(10_000, 99_999);
    story.say(numbers.took(40), "INFO", "worker", format!("job {job} order_confirmation started"));
    story.say(
        numbers.took(220),
        "DEBUG",
        "worker",
        format!("mail to user {} accepted by 10.0.8.9", job % 9_000),
    );
    let took = story.took() % 900;
    story.say(numbers.took(4), "INFO", "worker", format!("job {job} done in {took} ms"));
    Some(201)
}

fn export(story: &mut Story, numbers: &mut Numbers, pool: &mut Pool) -> Option<u32> {
    arrive(story, numbers, "GET", "/export/orders.csv");
    authenticated(story, numbers);
    let connection = pool.acquire(story, numbers)?;
    query(story, numbers, "export_orders", 120);
    let rows = numbers.between(400, 9_000);
    story.say(numbers.took(200), "DEBUG", "api", format!("sent {rows} rows as text/csv"));
    release(story, numbers, connection);
    Some(200)
}

fn login(story: &mut Story, numbers: &mut Numbers, pool: &mut Pool) -> Option<u32> {
    arrive(story, numbers, "POST", "/login");
    let connection = pool.acquire(story, numbers)?;
    query(story, numbers, "select_user", 6);
    release(story, numbers, connection);
    let user = numbers.between(1_000, 9_999);
    if numbers.happens(120) {
        story.say(numbers.took(80), "INFO", "api", format!("wrong password for user {user}"));
        return Some(401);
    }
    story.say(numbers.took(80), "INFO", "api", format!("user {user} logged in"));
    Some(200)
}

fn unknown_page(story: &mut Story, numbers: &mut Numbers) -> Option<u32> {
    let path = numbers.choose(&["/wp-login.php", "/favicon.ico", "/.env", "/old/catalogue", "/robots.txt"]);
    arrive(story, numbers, "GET", path);
    story.say(numbers.took(2), "DEBUG", "api", "no route matches".to_owned());
    Some(404)
}

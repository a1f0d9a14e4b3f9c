//! What replicas share, in Redis: kept answers and rate limits. A Redis that does not answer is as if
//! there were no cache, and lets calls through: it must not take the gateway with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use opsroom_core::id::sha256_hex;
use opsroom_core::{Error, Result, Secret};
use opsroom_gateway::seam::Shared;
use opsroom_gateway::shared::InProcess;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult, Script};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// Where replicas share kept answers and rate limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// The Redis that replicas share, such as `redis://:password@host:6379/0`; empty: each server keeps its
    /// own. Also read from `REDIS_URL`.
    pub url: Secret,
}

impl RedisConfig {
    /// What replicas share: in Redis where one is named, else in this process. Redis need not answer yet.
    ///
    /// # Errors
    /// `Invalid` for a URL that cannot be used.
    pub fn shared(&self) -> Result<Arc<dyn Shared>> {
        Ok(match self.url.is_empty() {
            true => Arc::new(InProcess::default()),
            false => Arc::new(RedisShared::new(&self.url)?),
        })
    }
}

/// How long one question to Redis may take: longer, and the answer is not worth waiting for.
const LIMIT: Duration = Duration::from_millis(250);
/// What keys begin with.
const PREFIX: &str = "opsroom:";

/// Takes one token of a bucket that fills evenly (`per_minute` a minute, at most as many at once), by
/// Redis's own clock: one step for every replica. Answers 1 when there was one.
const TAKE: &str = r"
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local most = tonumber(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = tonumber(known[1]) or most
local at = tonumber(known[2]) or now
left = math.min(most, left + math.max(0, now - at) * most / 60)
local taken = 0
if left >= 1 then
  left = left - 1
  taken = 1
end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], 120)
return taken
";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// Kept answers and rate limits in Redis.
pub struct RedisShared {
    client: Client,
    /// One connection for all, which carries many questions at once; made anew after it broke.
    connection: Mutex<Option<MultiplexedConnection>>,
    take: Script,
}

impl RedisShared {
    /// A client of `redis://[:password@]host:port/database`, which connects when it is first asked.
    ///
    /// # Errors
    /// `Invalid` for what is no such URL.
    pub fn new(url: &Secret) -> Result<Self> {
        let client = Client::open(url.expose())
            .map_err(|_| Error::invalid("redis.url: it is not such as redis://host:6379/0"))?;
        Ok(Self { client, connection: Mutex::new(None), take: Script::new(TAKE) })
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// `Unavailable` when it does not.
    pub async fn ping(&self) -> Result<()> {
        let answer = self.ask::<String>(&redis::cmd("PING")).await;
        answer
            .map(drop)
            .map_err(|error| Error::unavailable("Redis does not answer (`redis.url`)").because(error))
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut on = self.on().await?;
        let answer = command.query_async(&mut on).await;
        self.keep(answer).await
    }

    async fn on(&self) -> RedisResult<MultiplexedConnection> {
        let mut held = self.connection.lock().await;
        if let Some(on) = held.as_ref() {
            return Ok(on.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(LIMIT));
        let on = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *held = Some(on.clone());
        Ok(on)
    }

    /// After an answer that is no answer the connection is made anew.
    async fn keep<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer
            .as_ref()
            .is_err_and(|error| error.is_io_error() || error.is_connection_dropped() || error.is_timeout())
        {
            *self.connection.lock().await = None;
        }
        answer
    }
}

/// A key may hold arguments of calls: what is kept under is its hash.
fn name(what: &str, key: &str) -> String {
    format!("{PREFIX}{what}:{}", sha256_hex(key))
}

impl Shared for RedisShared {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            let answer = self.ask::<Option<Vec<u8>>>(redis::cmd("GET").arg(name("tool_cache", key))).await;
            answer.inspect_err(away).ok().flatten().map(Bytes::from)
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, keep: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1);
            let mut command = redis::cmd("SET");
            command.arg(name("tool_cache", key)).arg(&value[..]).arg("PX").arg(millis);
            drop(self.ask::<()>(&command).await.inspect_err(away));
        })
    }

    fn take<'a>(&'a self, key: &'a str, per_minute: u32) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let taken = async {
                let mut on = self.on().await?;
                let answer =
                    self.take.key(name("rate", key)).arg(per_minute).invoke_async::<i64>(&mut on).await;
                self.keep(answer).await
            };
            taken.await.inspect_err(away).map_or(true, |taken| taken == 1)
        })
    }
}

fn away(error: &redis::RedisError) {
    tracing::debug!(error = %error, "Redis does not answer; calls go on without it");
}

//! The few places where librdkafka must be read past its Rust binding, because the binding panics on bytes that a
//! stranger can write (a header name or commit metadata that isn't UTF-8) or doesn't reach what is needed.
//! One corrupt byte must not stop a consumer.

#![expect(
    unsafe_code,
    reason = "reads librdkafka's structures where the binding would panic; see the module"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset as RawOffset, TopicPartitionList};
use types::{HeaderName, Headers, Offset, TopicName, TopicPartition};

use crate::consumer::ConsumedRecord;
use crate::producer::Wake;

/// Headers of most records: room that is taken at once.
const HEADERS_USUAL: usize = 10;

/// An owned copy, in one allocation for key, value and header values.
pub(crate) fn record(message: &BorrowedMessage<'_>, tp: &TopicPartition) -> ConsumedRecord {
    let headers = Native::of(message);
    let (key, value) = (message.key(), message.payload());
    let size = key.map_or(0, <[u8]>::len)
        + value.map_or(0, <[u8]>::len)
        + headers.iter().map(|(_, v)| v.map_or(0, <[u8]>::len)).sum::<usize>();
    let mut all = BytesMut::with_capacity(size);
    let mut copy = |bytes: &[u8]| -> Bytes {
        all.extend_from_slice(bytes);
        all.split().freeze()
    };
    ConsumedRecord {
        tp: tp.clone(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: key.map(&mut copy),
        value: value.map(&mut copy),
        headers: headers.iter().fold(Headers::with_capacity(HEADERS_USUAL), |mut made, (name, value)| {
            made.push_nullable(HeaderName::new(&String::from_utf8_lossy(name)), value.map(&mut copy));
            made
        }),
    }
}

/// A message's headers, while the message lives.
struct Native<'a> {
    headers: *mut sys::rd_kafka_headers_t,
    message: std::marker::PhantomData<&'a ()>,
}

impl<'a> Native<'a> {
    fn of(message: &'a BorrowedMessage<'_>) -> Self {
        let mut headers = ptr::null_mut();
        // SAFETY: the message's pointer is valid while it is borrowed; the headers stay owned by it.
        let code = unsafe { sys::rd_kafka_message_headers(message.ptr(), &mut headers) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            headers = ptr::null_mut();
        }
        Self { headers, message: std::marker::PhantomData }
    }

    fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + '_ {
        (0..).map_while(|index| {
            if self.headers.is_null() {
                return None;
            }
            let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
                (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers belong to the borrowed message; the out pointers are ours.
            let code = unsafe {
                sys::rd_kafka_header_get_all(self.headers, index, &mut name, &mut value, &mut size)
            };
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            // SAFETY: librdkafka ends names with NUL, and `value` has `size` bytes unless null; both live as the message does.
            unsafe {
                let name = CStr::from_ptr(name).to_bytes();
                let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
                Some((name, value))
            }
        })
    }
}

/// Between looks at whether the caller still wants an answer.
const COMMIT_LOOK: Duration = Duration::from_millis(100);

/// Commits, and waits for the coordinator's answer while `wanted`; `None`: the wait was given up, and whether the
/// offsets are committed isn't known. The binding's own call can't be given up: it waits for a coordinator that is
/// away for as long as that is, and holds the client meanwhile.
pub(crate) fn commit<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    offsets: &TopicPartitionList,
    wanted: impl Fn() -> bool,
) -> Option<Result<(), RDKafkaErrorCode>> {
    let code = |code: sys::rd_kafka_resp_err_t| match code {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(RDKafkaErrorCode::from(code)),
    };
    // SAFETY: the client lives while it is borrowed; the queue and the event are ours and freed once. librdkafka copies
    // the offsets, and drops an answer whose queue is gone.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let asked =
            sys::rd_kafka_commit_queue(client.native_ptr(), offsets.ptr(), queue, None, ptr::null_mut());
        let mut answer = code(asked).err().map(Err);
        while answer.is_none() && wanted() {
            let event = sys::rd_kafka_queue_poll(queue, COMMIT_LOOK.as_millis() as i32);
            if !event.is_null() {
                answer = Some(code(sys::rd_kafka_event_error(event)));
                sys::rd_kafka_event_destroy(event);
            }
        }
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// A producer's main queue, and the wake-up when something comes into it while it is empty.
pub(crate) struct Watch {
    queue: *mut sys::rd_kafka_queue_t,
    /// librdkafka has a pointer to it.
    _wake: Arc<Wake>,
}

// SAFETY: librdkafka's queues are locked by themselves; the pointer is freed once, on drop.
unsafe impl Send for Watch {}
// SAFETY: as above.
unsafe impl Sync for Watch {}

impl Watch {
    /// To be dropped before the client.
    pub(crate) fn new<C: rdkafka::ClientContext>(
        client: &rdkafka::client::Client<C>,
        wake: Arc<Wake>,
    ) -> Self {
        // SAFETY: the client lives while it is borrowed; the queue is a counted reference of ours. What the callback
        // gets lives as long as `Watch`, whose drop takes the callback away first.
        unsafe {
            let queue = sys::rd_kafka_queue_get_main(client.native_ptr());
            sys::rd_kafka_queue_cb_event_enable(queue, Some(notify), Arc::as_ptr(&wake).cast_mut().cast());
            Self { queue, _wake: wake }
        }
    }

    /// What waits to be served.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the queue is ours until drop.
        unsafe { sys::rd_kafka_queue_length(self.queue) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the queue is ours. Taking the callback away holds the lock under which it is called, so none runs after.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Called by librdkafka's threads under the queue's lock: it must neither block nor call back.
unsafe extern "C" fn notify(_: *mut sys::rd_kafka_t, wake: *mut c_void) {
    // SAFETY: it is the `Wake` that the queue's `Watch` keeps.
    let wake = unsafe { &*wake.cast::<Wake>() };
    wake.ready.notify_one();
}

/// A list for a commit.
pub(crate) fn offsets(offsets: &[(TopicPartition, Offset, String)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (tp, offset, metadata) in offsets {
        let mut entry = list.add_partition(tp.topic.as_str(), tp.partition);
        // A negative offset stays "invalid", which the commit refuses.
        let _ = entry.set_offset(RawOffset::Offset(*offset));
        entry.set_metadata(metadata);
    }
    list
}

/// A list of partitions without offsets.
pub(crate) fn partitions<'a>(tps: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for tp in tps {
        list.add_partition(tp.topic.as_str(), tp.partition);
    }
    list
}

/// One entry of a list that librdkafka filled.
pub(crate) struct Entry {
    pub(crate) tp: TopicPartition,
    /// As librdkafka says it: logical ones are negative.
    pub(crate) offset: i64,
    pub(crate) metadata: String,
    pub(crate) error: Option<rdkafka::types::RDKafkaErrorCode>,
}

/// Reads a list, also where its metadata isn't UTF-8 (it is then read lossily).
pub(crate) fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    // SAFETY: the list owns `cnt` elements at `elems` while it is borrowed.
    let elements = unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
        }
    };
    elements
        .iter()
        .filter_map(|element| {
            // SAFETY: a list's topic is a NUL-terminated string that it owns.
            let topic = unsafe { CStr::from_ptr(element.topic) }.to_str().ok()?;
            let metadata = if element.metadata.is_null() {
                &[]
            } else {
                // SAFETY: `metadata` has `metadata_size` bytes that the list owns.
                unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }
            };
            let no_error = element.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            Some(Entry {
                tp: TopicPartition::new(TopicName::new(topic).ok()?, element.partition),
                offset: element.offset,
                metadata: String::from_utf8_lossy(metadata).into_owned(),
                error: (!no_error).then(|| element.err.into()),
            })
        })
        .collect()
}

/// First offset and high watermark of a partition as the last fetch answer said, without asking the engine.
/// `None`: none has come yet.
pub(crate) fn cached_watermarks<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    tp: &TopicPartition,
) -> Option<(Offset, Offset)> {
    let topic = CString::new(tp.topic.as_str()).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives while it is borrowed; topic and out pointers are ours.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            tp.partition,
            &mut low,
            &mut high,
        )
    };
    (code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low.max(0), high))
}

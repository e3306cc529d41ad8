#include "transfer/frame_codec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message_lite.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tensorferry/transfer/frame.pb.h"

namespace tensorferry {
namespace {

namespace wire = transfer::v1;

constexpr size_t kMaxText = 4096;      // of a status, a descriptor
constexpr size_t kMaxShortText = 256;  // names, digests, ids
constexpr uint32_t kMaxLanes = 1024;
constexpr uint32_t kMaxDevices = 128;
constexpr int kMaxChannels = 1024;
constexpr size_t kMaxBodyTag = 64;
// Everything in a frame but what grows with a message: so small that it may be
// parsed before it is known what it says, and from whom.
constexpr size_t kMaxRest = 64 << 10;

absl::Status Bad(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("frame: ", field, " ", why));
}

absl::Status CheckText(absl::string_view field, const std::string& text,
                       size_t most) {
  if (text.size() <= most) return absl::OkStatus();
  return Bad(field, absl::StrCat("has ", text.size(), " bytes, at most ", most,
                                 " are allowed"));
}

absl::Status CheckOperation(absl::string_view field, uint64_t operation) {
  if (operation != 0) return absl::OkStatus();
  return Bad(field, "is 0; operations count from 1");
}

void ToWire(const absl::Status& status, wire::Status* out) {
  out->set_code(static_cast<uint32_t>(status.code()));
  absl::string_view text = status.message().substr(0, kMaxText);
  out->set_message(text.data(), text.size());
}

// Decodes into an out parameter: an absl::StatusOr<absl::Status> would be a
// riddle.
absl::Status FromWire(absl::string_view field, const wire::Status& in,
                      absl::Status& out) {
  FERRY_RETURN_IF_ERROR(
      CheckText(absl::StrCat(field, ".message"), in.message(), kMaxText));
  if (in.code() > static_cast<uint32_t>(absl::StatusCode::kUnauthenticated)) {
    return Bad(absl::StrCat(field, ".code"),
               absl::StrCat("is ", in.code(), ", which is no status code"));
  }
  out = absl::Status(static_cast<absl::StatusCode>(in.code()), in.message());
  return absl::OkStatus();
}

// The status of a frame that exists only because something went wrong.
absl::Status ErrorFromWire(absl::string_view field, const wire::Status& in,
                           absl::Status& out) {
  FERRY_RETURN_IF_ERROR(FromWire(field, in, out));
  if (!out.ok()) return absl::OkStatus();
  return Bad(absl::StrCat(field, ".code"), "is OK, which is no reason");
}

struct Encoder {
  wire::Frame& out;

  void operator()(const HelloFrame& in) {
    wire::Hello& hello = *out.mutable_hello();
    hello.set_session_id(in.session_id);
    hello.set_wire(in.wire);
    hello.set_lane(in.lane);
    hello.set_generation(in.generation);
    hello.set_wire_version(in.wire_version);
    hello.set_lanes(in.lanes);
    for (const ChannelDescription& channel : in.channels) {
      wire::Channel& to = *hello.add_channels();
      to.set_name(channel.name);
      to.set_device_type(channel.device_type);
      to.set_device_index(channel.device_index);
      to.set_descriptor(channel.descriptor);
    }
    for (const GivenUpPath& path : in.given_up) {
      wire::GivenUp& to = *hello.add_given_up();
      to.set_path(path.path);
      ToWire(path.why, to.mutable_why());
    }
  }

  void operator()(const HeaderFrame& in) {
    wire::Header& header = *out.mutable_header();
    header.set_operation(in.operation);
    header.set_plan_digest(in.plan_digest);
    header.set_manifest(in.manifest);
    header.set_is_inline(in.is_inline);
    header.mutable_digests()->Add(in.digests.begin(), in.digests.end());
    header.mutable_lent()->Add(in.lent.begin(), in.lent.end());
    if (in.envelope.kind == Envelope::Kind::kMessage) return;
    wire::Envelope& envelope = *header.mutable_envelope();
    envelope.set_kind(static_cast<uint32_t>(in.envelope.kind));
    envelope.set_call(in.envelope.call);
    if (!in.envelope.reply_error.ok()) {
      ToWire(in.envelope.reply_error, envelope.mutable_reply_error());
    }
  }

  void operator()(const GrantFrame& in) {
    out.mutable_grant()->set_operation(in.operation);
    out.mutable_grant()->set_leases(in.leases);
  }
  void operator()(const RefuseFrame& in) {
    out.mutable_refuse()->set_operation(in.operation);
    ToWire(in.status, out.mutable_refuse()->mutable_status());
  }
  void operator()(const TrailerFrame& in) {
    wire::Trailer& trailer = *out.mutable_trailer();
    trailer.set_operation(in.operation);
    trailer.mutable_digests()->Add(in.digests.begin(), in.digests.end());
    for (const BodyAttempt& body : in.again) {
      trailer.add_again_body(body.body);
      trailer.add_again_attempt(body.attempt);
    }
  }
  void operator()(const AckFrame& in) {
    out.mutable_ack()->set_operation(in.operation);
    ToWire(in.status, out.mutable_ack()->mutable_status());
  }
  void operator()(const CancelFrame& in) {
    out.mutable_cancel()->set_operation(in.operation);
    ToWire(in.status, out.mutable_cancel()->mutable_status());
  }
  void operator()(const ReturnedFrame& in) {
    out.mutable_returned()->mutable_operations()->Add(in.operations.begin(),
                                                      in.operations.end());
  }
  void operator()(const ReopenFrame& in) {
    out.mutable_reopen()->set_lane(in.lane);
    out.mutable_reopen()->set_generation(in.generation);
  }
  void operator()(const RejectFrame& in) {
    ToWire(in.status, out.mutable_reject()->mutable_status());
  }
};

absl::Status CheckHello(const wire::Hello& in) {
  FERRY_RETURN_IF_ERROR(
      CheckText("hello.session_id", in.session_id(), kMaxShortText));
  FERRY_RETURN_IF_ERROR(CheckText("hello.wire", in.wire(), kMaxShortText));
  if (in.lanes() == 0 || in.lanes() > kMaxLanes) {
    return Bad("hello.lanes",
               absl::StrCat("is ", in.lanes(), ", want 1 to ", kMaxLanes));
  }
  if (in.lane() >= in.lanes()) {
    return Bad("hello.lane",
               absl::StrCat("is ", in.lane(), " of ", in.lanes(), " lanes"));
  }
  if (in.wire_version() > std::numeric_limits<int>::max()) {
    return Bad("hello.wire_version", "is too large");
  }
  if (in.channels_size() > kMaxChannels || in.given_up_size() > kMaxChannels) {
    return Bad("hello.channels", absl::StrCat("are more than ", kMaxChannels));
  }
  return absl::OkStatus();
}

absl::StatusOr<ChannelDescription> Decode(wire::Channel& in) {
  FERRY_RETURN_IF_ERROR(
      CheckText("hello.channels.name", in.name(), kMaxShortText));
  FERRY_RETURN_IF_ERROR(
      CheckText("hello.channels.device_type", in.device_type(), kMaxShortText));
  FERRY_RETURN_IF_ERROR(
      CheckText("hello.channels.descriptor", in.descriptor(), kMaxText));
  if (in.device_index() >= kMaxDevices) {
    return Bad("hello.channels.device_index", "is too large");
  }
  return ChannelDescription{
      std::move(*in.mutable_name()), std::move(*in.mutable_device_type()),
      static_cast<int>(in.device_index()), std::move(*in.mutable_descriptor())};
}

absl::StatusOr<GivenUpPath> Decode(wire::GivenUp& in) {
  GivenUpPath path;
  FERRY_RETURN_IF_ERROR(
      CheckText("hello.given_up.path", in.path(), kMaxShortText));
  FERRY_RETURN_IF_ERROR(
      ErrorFromWire("hello.given_up.why", in.why(), path.why));
  path.path = std::move(*in.mutable_path());
  return path;
}

absl::StatusOr<Frame> Decode(wire::Hello& in) {
  FERRY_RETURN_IF_ERROR(CheckHello(in));
  HelloFrame hello;
  hello.session_id = std::move(*in.mutable_session_id());
  hello.wire = std::move(*in.mutable_wire());
  hello.lane = in.lane();
  hello.generation = in.generation();
  hello.wire_version = static_cast<int>(in.wire_version());
  hello.lanes = in.lanes();
  for (wire::Channel& channel : *in.mutable_channels()) {
    FERRY_ASSIGN_OR_RETURN(ChannelDescription decoded, Decode(channel));
    hello.channels.push_back(std::move(decoded));
  }
  for (wire::GivenUp& path : *in.mutable_given_up()) {
    FERRY_ASSIGN_OR_RETURN(GivenUpPath decoded, Decode(path));
    hello.given_up.push_back(std::move(decoded));
  }
  return hello;
}

absl::StatusOr<Envelope> Decode(const wire::Envelope& in) {
  Envelope envelope;
  if (in.kind() > static_cast<uint32_t>(Envelope::Kind::kReply)) {
    return Bad("header.envelope.kind",
               absl::StrCat("is ", in.kind(), ", want 0 to 2"));
  }
  envelope.kind = static_cast<Envelope::Kind>(in.kind());
  envelope.call = in.call();
  FERRY_RETURN_IF_ERROR(FromWire("header.envelope.reply_error",
                                 in.reply_error(), envelope.reply_error));
  if (!envelope.reply_error.ok() && envelope.kind != Envelope::Kind::kReply) {
    return Bad("header.envelope.reply_error", "is set on what is no reply");
  }
  return envelope;
}

absl::StatusOr<Frame> Decode(wire::Header& in, const Limits& limits) {
  HeaderFrame header;
  FERRY_RETURN_IF_ERROR(CheckOperation("header.operation", in.operation()));
  FERRY_RETURN_IF_ERROR(
      CheckText("header.plan_digest", in.plan_digest(), kMaxShortText));
  if (in.manifest().size() > limits.manifest_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "frame: header.manifest has ", in.manifest().size(),
        " bytes, over the limit manifest_bytes of ", limits.manifest_bytes));
  }
  FERRY_ASSIGN_OR_RETURN(header.envelope, Decode(in.envelope()));
  header.operation = in.operation();
  header.plan_digest = std::move(*in.mutable_plan_digest());
  header.manifest = std::move(*in.mutable_manifest());
  header.is_inline = in.is_inline();
  header.digests.assign(in.digests().begin(), in.digests().end());
  header.lent.assign(in.lent().begin(), in.lent().end());
  return header;
}

absl::StatusOr<Frame> Decode(const wire::Grant& in) {
  FERRY_RETURN_IF_ERROR(CheckOperation("grant.operation", in.operation()));
  return GrantFrame{in.operation(), in.leases()};
}

absl::StatusOr<Frame> Decode(const wire::Refuse& in) {
  RefuseFrame refuse{in.operation(), {}};
  FERRY_RETURN_IF_ERROR(CheckOperation("refuse.operation", in.operation()));
  FERRY_RETURN_IF_ERROR(
      ErrorFromWire("refuse.status", in.status(), refuse.status));
  return refuse;
}

absl::StatusOr<Frame> Decode(const wire::Trailer& in) {
  FERRY_RETURN_IF_ERROR(CheckOperation("trailer.operation", in.operation()));
  TrailerFrame trailer;
  trailer.operation = in.operation();
  trailer.digests.assign(in.digests().begin(), in.digests().end());
  if (in.again_body_size() != in.again_attempt_size()) {
    return Bad("trailer.again_attempt",
               absl::StrCat("has ", in.again_attempt_size(), " values for ",
                            in.again_body_size(), " bodies"));
  }
  for (int i = 0; i < in.again_body_size(); ++i) {
    trailer.again.push_back({in.again_body(i), in.again_attempt(i)});
  }
  return trailer;
}

absl::StatusOr<Frame> Decode(const wire::Ack& in) {
  AckFrame ack{in.operation(), {}};
  FERRY_RETURN_IF_ERROR(CheckOperation("ack.operation", in.operation()));
  FERRY_RETURN_IF_ERROR(FromWire("ack.status", in.status(), ack.status));
  return ack;
}

absl::StatusOr<Frame> Decode(const wire::Cancel& in) {
  CancelFrame cancel{in.operation(), {}};
  FERRY_RETURN_IF_ERROR(CheckOperation("cancel.operation", in.operation()));
  FERRY_RETURN_IF_ERROR(
      ErrorFromWire("cancel.status", in.status(), cancel.status));
  return cancel;
}

absl::StatusOr<Frame> Decode(const wire::Reopen& in) {
  return ReopenFrame{in.lane(), in.generation()};
}

absl::StatusOr<Frame> Decode(const wire::Reject& in) {
  RejectFrame reject;
  FERRY_RETURN_IF_ERROR(
      ErrorFromWire("reject.status", in.status(), reject.status));
  return reject;
}

absl::StatusOr<Frame> Decode(const wire::Returned& in) {
  ReturnedFrame returned;
  for (const uint64_t operation : in.operations()) {
    FERRY_RETURN_IF_ERROR(CheckOperation("returned.operations", operation));
    returned.operations.push_back(operation);
  }
  return returned;
}

// The digests are at most one for each storage, and those are bounded by the
// tensors: up to three storages each, and the payload.
size_t MaxDigests(const Limits& limits) {
  return 4 * static_cast<size_t>(limits.tensors) + 1;
}

// Sent again are at most all bodies, each with two numbers of five bytes. A
// body begins when the one before has all the pieces that it may, or the two
// hold more than one may, or, once, with what is lent (CutIntoBodies).
uint64_t MaxAgainBytes(const Limits& limits) {
  const uint64_t most = 3 * (limits.message_bytes / kPieceBytes + 1) +
                        MaxDigests(limits) / kMaxPiecesInBody + 1;
  return 10 * most;
}

uint64_t MaxHeaderBytes(const Limits& limits) {
  // A digest for each storage, and the number of a buffer, of five bytes.
  return kMaxRest + limits.manifest_bytes + MaxDigests(limits) * (8 + 5);
}

uint64_t MaxTrailerBytes(const Limits& limits) {
  return kMaxRest + MaxDigests(limits) * 8 + MaxAgainBytes(limits);
}

// How long a frame that begins so may be. Only two kinds grow with a message;
// they have all of their fields packed, so that protobuf makes no more of them
// than a few times their bytes.
uint64_t MaxBytes(absl::string_view frame, const Limits& limits) {
  google::protobuf::io::CodedInputStream in(
      reinterpret_cast<const uint8_t*>(frame.data()),
      static_cast<int>(frame.size()));
  constexpr uint32_t kLengthDelimited = 2;
  uint32_t tag = 0, length = 0;
  // Another kind could follow what does not fill the frame.
  if (!in.ReadVarint32(&tag) || !in.ReadVarint32(&length) ||
      in.CurrentPosition() + uint64_t{length} != frame.size()) {
    return kMaxRest;
  }
  switch (tag) {
    case wire::Frame::kHeaderFieldNumber << 3 | kLengthDelimited:
      return MaxHeaderBytes(limits);
    case wire::Frame::kTrailerFieldNumber << 3 | kLengthDelimited:
      return MaxTrailerBytes(limits);
    default:
      return kMaxRest;
  }
}

absl::Status TooLong(absl::string_view frame, uint64_t most) {
  return absl::ResourceExhaustedError(
      absl::StrCat("frame: has ", frame.size(), " bytes, at most ", most,
                   " are allowed by its kind, manifest_bytes and tensors"));
}

bool Parse(absl::string_view bytes, google::protobuf::MessageLite& message) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace

size_t MaxFrameBytes(const Limits& limits) {
  return std::min<uint64_t>(
      std::max(MaxHeaderBytes(limits), MaxTrailerBytes(limits)),
      std::numeric_limits<int>::max());
}

std::string EncodeFrame(const Frame& frame) {
  wire::Frame out;
  std::visit(Encoder{out}, frame);
  return out.SerializeAsString();
}

std::string EncodeBodyTag(const BodyTag& tag) {
  wire::Body out;
  out.set_operation(tag.operation);
  out.set_generation(tag.generation);
  out.set_body(tag.body);
  out.set_attempt(tag.attempt);
  return out.SerializeAsString();
}

absl::StatusOr<Frame> DecodeFrame(absl::string_view bytes,
                                  const Limits& limits) {
  if (bytes.size() > MaxFrameBytes(limits)) {
    return TooLong(bytes, MaxFrameBytes(limits));
  }
  if (bytes.size() > kMaxRest && bytes.size() > MaxBytes(bytes, limits)) {
    return TooLong(bytes, MaxBytes(bytes, limits));
  }
  wire::Frame in;
  if (!Parse(bytes, in)) {
    return absl::InvalidArgumentError(
        absl::StrCat("frame: ", bytes.size(), " bytes that are no frame"));
  }
  switch (in.kind_case()) {
    case wire::Frame::kHello:
      return Decode(*in.mutable_hello());
    case wire::Frame::kHeader:
      return Decode(*in.mutable_header(), limits);
    case wire::Frame::kGrant:
      return Decode(in.grant());
    case wire::Frame::kRefuse:
      return Decode(in.refuse());
    case wire::Frame::kTrailer:
      return Decode(in.trailer());
    case wire::Frame::kAck:
      return Decode(in.ack());
    case wire::Frame::kCancel:
      return Decode(in.cancel());
    case wire::Frame::kReopen:
      return Decode(in.reopen());
    case wire::Frame::kReject:
      return Decode(in.reject());
    case wire::Frame::kReturned:
      return Decode(in.returned());
    case wire::Frame::KIND_NOT_SET:
      break;
  }
  return Bad("kind", "is none that this version knows");
}

absl::StatusOr<BodyTag> DecodeBodyTag(absl::string_view bytes) {
  wire::Body in;
  if (bytes.size() > kMaxBodyTag || !Parse(bytes, in)) {
    return absl::InvalidArgumentError(
        absl::StrCat("body: ", bytes.size(),
                     " bytes of metadata that are no "
                     "body's description"));
  }
  FERRY_RETURN_IF_ERROR(CheckOperation("body.operation", in.operation()));
  return BodyTag{in.operation(), in.generation(), in.body(), in.attempt()};
}

}  // namespace tensorferry

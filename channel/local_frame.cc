#include "channel/local_frame.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/little_endian.h"

namespace tensorferry {
namespace {

using Kind = LocalFrame::Kind;

// Where fields lie; integers are little-endian, bytes 2 to 7 are zero. A LOAN
// has its offset where a HELLO has its nonce.
constexpr size_t kArenaAt = 1, kNumberAt = 8, kLengthAt = 16, kAddressAt = 24,
                 kNonceAt = 32, kOffsetAt = 32, kReasonAt = 48;
static_assert(kReasonAt + kLocalReasonBytes == kLocalFrameBytes);

LocalFrame ReadFields(absl::string_view bytes) {
  LocalFrame frame;
  frame.kind = static_cast<Kind>(bytes[0]);
  frame.arena = static_cast<uint8_t>(bytes[kArenaAt]);
  frame.number = LoadLittleEndian(&bytes[kNumberAt], 8);
  frame.length = LoadLittleEndian(&bytes[kLengthAt], 8);
  frame.address = LoadLittleEndian(&bytes[kAddressAt], 8);
  if (frame.kind == Kind::kLoan) {
    frame.offset = LoadLittleEndian(&bytes[kOffsetAt], 8);
  } else {
    std::memcpy(frame.nonce.data(), &bytes[kNonceAt], frame.nonce.size());
  }
  const absl::string_view reason = bytes.substr(kReasonAt);
  frame.reason = std::string(reason.substr(0, reason.find('\0')));
  return frame;
}

// How many values `arena` has.
size_t PlacesOf(Kind kind) {
  switch (kind) {
    case Kind::kArena:
    case Kind::kWant:
      return kMostArenas;
    case Kind::kLend:
    case Kind::kLoan:
      return kMostLentArenas;
    default:
      return 1;
  }
}

// What is wrong with the fields for the frame's kind; empty: nothing.
std::string WrongField(const LocalFrame& frame) {
  const bool hello = frame.kind == Kind::kHello;
  const bool loan = frame.kind == Kind::kLoan;
  const bool arena = frame.kind == Kind::kArena || frame.kind == Kind::kLend;
  const bool offer = frame.kind == Kind::kOffer || loan;
  const bool want = frame.kind == Kind::kWant;
  if (frame.kind < Kind::kHello || frame.kind > Kind::kPlacing) {
    return "unknown kind";
  }
  if (frame.arena >= PlacesOf(frame.kind)) return "arena";
  if (hello || arena ? frame.number != 0 : frame.number == UINT64_MAX) {
    return "number";
  }
  if (hello != (frame.length == 0)) return "length";
  if (frame.address != 0 ? !hello && !offer && !want : offer) return "address";
  const uint64_t span = hello ? frame.nonce.size() : frame.length;
  if (frame.address != 0 && span > UINT64_MAX - frame.address) return "address";
  if (frame.offset != 0 && (!loan || span > UINT64_MAX - frame.offset)) {
    return "offset";
  }
  if (frame.nonce != MemoryNonce{} && (!hello || frame.address == 0))
    return "nonce";
  const bool explains = frame.kind == Kind::kStream ||
                        frame.kind == Kind::kCannot ||
                        (hello && frame.address == 0);
  if (!arena && explains == frame.reason.empty()) return "reason";
  return "";
}

}  // namespace

LocalFrameBytes EncodeLocalFrame(const LocalFrame& frame) {
  LocalFrameBytes bytes = {};
  bytes[0] = static_cast<uint8_t>(frame.kind);
  bytes[kArenaAt] = frame.arena;
  StoreLittleEndian(frame.number, 8, &bytes[kNumberAt]);
  StoreLittleEndian(frame.length, 8, &bytes[kLengthAt]);
  StoreLittleEndian(frame.address, 8, &bytes[kAddressAt]);
  if (frame.kind == Kind::kLoan) {
    StoreLittleEndian(frame.offset, 8, &bytes[kOffsetAt]);
  } else {
    std::copy(frame.nonce.begin(), frame.nonce.end(), &bytes[kNonceAt]);
  }
  const size_t n = std::min(frame.reason.size(), kLocalReasonBytes);
  std::transform(frame.reason.begin(), frame.reason.begin() + n,
                 &bytes[kReasonAt], [](unsigned char c) -> uint8_t {
                   return absl::ascii_isprint(c) ? c : '?';
                 });
  return bytes;
}

absl::StatusOr<LocalFrame> DecodeLocalFrame(absl::string_view bytes) {
  if (bytes.size() != kLocalFrameBytes) {
    return absl::DataLossError(absl::StrCat("local channel: a frame of ",
                                            bytes.size(), " bytes, want ",
                                            kLocalFrameBytes));
  }
  LocalFrame frame = ReadFields(bytes);
  const std::string wrong = WrongField(frame);
  const LocalFrameBytes again = EncodeLocalFrame(frame);
  if (!wrong.empty() ||
      std::memcmp(again.data(), bytes.data(), bytes.size()) != 0) {
    return absl::DataLossError(
        absl::StrCat("local channel: the peer's frame of kind ",
                     static_cast<int>(frame.kind), " is malformed",
                     wrong.empty() ? "" : absl::StrCat(": ", wrong)));
  }
  return frame;
}

}  // namespace tensorferry

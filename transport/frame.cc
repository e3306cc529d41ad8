#include "transport/frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/little_endian.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr uint64_t kHeader = FrameHeader::kBytes;
// More than this in one call of the system gains nothing, and a frame that
// turns out to be wrong is noticed earlier.
constexpr uint64_t kBytesPerCall = uint64_t{4} << 20;
// A body of at least so much that is still to come is read in place.
constexpr uint64_t kWorthAReadInPlace = uint64_t{16} << 10;

// Appends what is left of a frame of which `done` bytes are through. Returns
// how many it appended.
int Append(uint8_t* header, uint8_t* data, uint64_t length, uint64_t done,
           iovec* out, uint64_t& total) {
  int count = 0;
  if (done < kHeader) {
    out[count++] = {header + done, kHeader - done};
    total += kHeader - done;
    done = kHeader;
  }
  const uint64_t body = std::min(length - (done - kHeader), kBytesPerCall);
  if (body > 0) {
    out[count++] = {data + (done - kHeader), body};
    total += body;
  }
  return count;
}

}  // namespace

void EncodeFrameHeader(const FrameHeader& header, uint8_t* out) {
  StoreLittleEndian(header.length, 7, out);
  out[7] = static_cast<uint8_t>(header.kind);
}

absl::StatusOr<FrameHeader> DecodeFrameHeader(const uint8_t* in) {
  const auto kind = static_cast<FrameKind>(in[7]);
  if (kind != FrameKind::kBytes && kind != FrameKind::kPacket) {
    return absl::DataLossError(absl::StrCat("frame of unknown kind ", in[7]));
  }
  return FrameHeader{.kind = kind, .length = LoadLittleEndian(in, 7)};
}

void FrameWriter::AddBytes(const void* data, uint64_t length) {
  Add(FrameKind::kBytes, data, length, {});
}

void FrameWriter::AddBytesWith(int descriptor, const void* data,
                               const void* without, uint64_t length) {
  AddBytes(data, length);
  frames_.back().descriptor = descriptor;
  frames_.back().without = static_cast<const uint8_t*>(without);
}

void FrameWriter::AddPacket(std::vector<uint8_t> packet) {
  const uint8_t* data = packet.data();
  const uint64_t length = packet.size();
  Add(FrameKind::kPacket, data, length, std::move(packet));
}

void FrameWriter::Add(FrameKind kind, const void* data, uint64_t length,
                      std::vector<uint8_t> packet) {
  Frame& frame = frames_.emplace_back();
  EncodeFrameHeader({.kind = kind, .length = length}, frame.header);
  frame.data = static_cast<const uint8_t*>(data);
  frame.length = length;
  frame.packet = std::move(packet);
}

std::string FrameWriter::FirstPackets(int count) const {
  std::string out;
  for (const Frame& frame : frames_) {
    const bool is_packet =
        DecodeFrameHeader(frame.header)->kind == FrameKind::kPacket;
    if (!is_packet || count-- == 0) break;
    out.append(reinterpret_cast<const char*>(frame.header), kHeader);
    out.append(reinterpret_cast<const char*>(frame.data), frame.length);
  }
  return out;
}

int FrameWriter::Next(iovec* out, int capacity) const {
  int count = 0;
  uint64_t total = 0, done = sent_;
  for (const Frame& frame : frames_) {
    if (count + 2 > capacity || total >= kBytesPerCall) break;
    if (count > 0 && frame.descriptor >= 0) break;  // in a call of its own
    count += Append(const_cast<uint8_t*>(frame.header),
                    const_cast<uint8_t*>(frame.data), frame.length, done,
                    out + count, total);
    if (frame.length > kBytesPerCall) break;  // the rest of it is next
    done = 0;
  }
  return count;
}

int FrameWriter::NextDescriptor() const {
  return frames_.empty() || sent_ > 0 ? -1 : frames_.front().descriptor;
}

void FrameWriter::DropDescriptor() {
  frames_.front().descriptor = -1;
  frames_.front().data = frames_.front().without;
}

int FrameWriter::Sent(size_t bytes) {
  sent_ += bytes;
  int through = 0;
  while (!frames_.empty() && sent_ >= kHeader + frames_.front().length) {
    sent_ -= kHeader + frames_.front().length;
    frames_.pop_front();
    ++through;
  }
  return through;
}

void FrameReader::ExpectBytes(void* data, uint64_t length) {
  Frame& frame = frames_.emplace_back();
  frame.kind = FrameKind::kBytes;
  frame.any_length = false;
  frame.data = static_cast<uint8_t*>(data);
  frame.length = length;
}

void FrameReader::ExpectAny(FrameKind kind) {
  Frame& frame = frames_.emplace_back();
  frame.kind = kind;
  frame.any_length = true;
  frame.data = nullptr;
  frame.length = 0;
}

int FrameReader::Next(iovec* out, int capacity) {
  if (!expecting()) return 0;
  const Frame& first = frames_[done_];
  if (first.any_length) {
    if (got_ < kHeader) return 0;
    const uint64_t left = first.length - (got_ - kHeader);
    if (left < kWorthAReadInPlace) return 0;
  }
  int count = 0;
  uint64_t total = 0, done = got_;
  for (size_t i = done_; i < frames_.size(); ++i) {
    Frame& frame = frames_[i];
    if (i > done_ && frame.any_length) break;
    if (count + 2 > capacity || total >= kBytesPerCall) break;
    count += Append(frame.header, frame.data, frame.room(), done, out + count,
                    total);
    if (frame.length > kBytesPerCall || frame.room() < frame.length) break;
    done = 0;
  }
  return count;
}

absl::Status FrameReader::OnHeader(Frame& frame) {
  FERRY_ASSIGN_OR_RETURN(FrameHeader header, DecodeFrameHeader(frame.header));
  if (header.kind != frame.kind) {
    return absl::DataLossError(absl::StrCat(
        "frame of kind ", std::string(1, static_cast<char>(header.kind)),
        ", expected ", std::string(1, static_cast<char>(frame.kind))));
  }
  if (!frame.any_length) {
    if (header.length == frame.length) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("frame of ", header.length,
                                            " bytes, expected ", frame.length));
  }
  if (header.length > longest_) {
    return absl::DataLossError(absl::StrCat(
        "frame of ", header.length, " bytes, at most ", longest_, " allowed"));
  }
  frame.length = header.length;
  return Grow(frame);
}

// Called when what there is of the body is full.
absl::Status FrameReader::Grow(Frame& frame) {
  const uint64_t next = std::max<uint64_t>(kFirstStep, 2 * frame.body.size());
  FERRY_RETURN_IF_ERROR(CatchExceptions(
      absl::StrCat("a frame of ", frame.length, " bytes"),
      [&] { frame.body.resize(std::min(frame.length, next)); }));
  frame.data = frame.body.data();
  return absl::OkStatus();
}

absl::Status FrameReader::Received(size_t bytes) {
  uint64_t before = got_;
  got_ += bytes;
  while (expecting() && got_ >= kHeader) {
    Frame& frame = frames_[done_];
    if (before < kHeader) FERRY_RETURN_IF_ERROR(OnHeader(frame));
    if (got_ < kHeader + frame.length) {
      if (got_ == kHeader + frame.room()) return Grow(frame);
      break;
    }
    got_ -= kHeader + frame.length;
    before = 0;
    ++done_;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> FrameReader::Take(const uint8_t* data, size_t size) {
  size_t taken = 0;
  while (taken < size && expecting()) {
    Frame& frame = frames_[done_];
    const bool in_header = got_ < kHeader;
    uint8_t* to =
        in_header ? frame.header + got_ : frame.data + (got_ - kHeader);
    const uint64_t room =
        in_header ? kHeader - got_ : frame.room() - (got_ - kHeader);
    const size_t bytes = std::min<uint64_t>(room, size - taken);
    std::memcpy(to, data + taken, bytes);
    taken += bytes;
    FERRY_RETURN_IF_ERROR(Received(bytes));
  }
  return taken;
}

std::vector<uint8_t> FrameReader::TakeFrame() {
  std::vector<uint8_t> body = std::move(frames_.front().body);
  frames_.pop_front();
  --done_;
  return body;
}

}  // namespace tensorferry

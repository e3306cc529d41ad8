#include "transport/nop_scanner.h"

#include "base/little_endian.h"

namespace tensorferry {
namespace {

constexpr uint8_t kLastPositive = 0x7f, kFirstNegative = 0xc0;
constexpr uint8_t kU8 = 0x80, kU64 = 0x83, kI8 = 0x84, kI64 = 0x87;
constexpr uint8_t kF32 = 0x88, kF64 = 0x89;
constexpr uint8_t kVariant = 0xb8, kStructure = 0xb9, kArray = 0xba;
constexpr uint8_t kMap = 0xbb, kBinary = 0xbc, kString = 0xbd, kNil = 0xbe;

// Deeper than any packet of tensorpipe.
constexpr int kDeepest = 16;

}  // namespace

bool NopScanner::Prefix(uint8_t wanted) {
  if (rest_.empty() || static_cast<uint8_t>(rest_[0]) != wanted) return false;
  rest_.remove_prefix(1);
  return true;
}

bool NopScanner::Bytes(uint64_t count, absl::string_view& bytes) {
  if (count > rest_.size()) return false;
  bytes = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return true;
}

bool NopScanner::LittleEndian(int count, uint64_t& value) {
  absl::string_view bytes;
  if (!Bytes(count, bytes)) return false;
  value = LoadLittleEndian(bytes.data(), bytes.size());
  return true;
}

bool NopScanner::Unsigned(uint64_t& value) {
  if (rest_.empty()) return false;
  const uint8_t prefix = rest_[0];
  if (prefix > kLastPositive && (prefix < kU8 || prefix > kU64)) return false;
  rest_.remove_prefix(1);
  if (prefix <= kLastPositive) {
    value = prefix;
    return true;
  }
  return LittleEndian(1 << (prefix - kU8), value);
}

bool NopScanner::Signed(int64_t& value) {
  if (rest_.empty()) return false;
  const uint8_t prefix = rest_[0];
  const bool wide = prefix >= kI8 && prefix <= kI64;
  if (!wide && prefix > kLastPositive && prefix < kFirstNegative) return false;
  rest_.remove_prefix(1);
  if (!wide) {
    value = static_cast<int8_t>(prefix);
    return true;
  }
  const int bytes = 1 << (prefix - kI8);
  uint64_t bits;
  if (!LittleEndian(bytes, bits)) return false;
  const int unused = 64 - 8 * bytes;
  value = static_cast<int64_t>(bits << unused) >> unused;  // of either sign
  return true;
}

bool NopScanner::Counted(uint8_t prefix, uint64_t& count) {
  return Prefix(prefix) && Unsigned(count);
}

bool NopScanner::String(absl::string_view& value) {
  uint64_t length;
  return Counted(kString, length) && Bytes(length, value);
}

bool NopScanner::Binary(absl::string_view& value) {
  uint64_t length;
  return Counted(kBinary, length) && Bytes(length, value);
}

bool NopScanner::Nil() { return Prefix(kNil); }

bool NopScanner::Structure(uint64_t members) {
  uint64_t count;
  return Counted(kStructure, count) && count == members;
}

bool NopScanner::Array(uint64_t& elements) { return Counted(kArray, elements); }

bool NopScanner::Map(uint64_t& entries) { return Counted(kMap, entries); }

bool NopScanner::Variant(int64_t& index) {
  return Prefix(kVariant) && Signed(index);
}

// Each value takes a byte at least, so that no count can make this long.
bool NopScanner::Skip(int depth) {
  if (rest_.empty() || depth > kDeepest) return false;
  const uint8_t prefix = rest_[0];
  absl::string_view bytes;
  uint64_t count;
  int64_t index;
  switch (prefix) {
    case kVariant:
      return Variant(index) && Skip(depth + 1);
    case kMap:
      if (!Map(count)) return false;
      for (uint64_t i = 0; i < count; ++i) {
        if (!Skip(depth + 1) || !Skip(depth + 1)) return false;
      }
      return true;
    case kStructure:
    case kArray:
      if (!Counted(prefix, count)) return false;
      for (uint64_t i = 0; i < count; ++i) {
        if (!Skip(depth + 1)) return false;
      }
      return true;
    case kString:
      return String(bytes);
    case kBinary:
      return Binary(bytes);
    case kNil:
      return Nil();
    case kF32:
    case kF64:
      rest_.remove_prefix(1);
      return Bytes(prefix == kF32 ? 4 : 8, bytes);
    default:
      return prefix >= kI8 && prefix <= kI64 ? Signed(index)
             : prefix >= kFirstNegative      ? Signed(index)
                                             : Unsigned(count);
  }
}

}  // namespace tensorferry

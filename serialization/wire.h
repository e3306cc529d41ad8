#ifndef TENSORFERRY_SERIALIZATION_WIRE_H_
#define TENSORFERRY_SERIALIZATION_WIRE_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace tensorferry {

// The part of protobuf's wire format that a manifest uses, to and from plain
// vectors. Protobuf's own classes would hold every column a second time, take
// memory for a column before its length can be checked, and cost more than all
// checks together.

inline int VarintSize(uint64_t value) {
  return (std::bit_width(value | 1) + 6) / 7;
}

// Signed columns that hold no negative numbers go as they are; those that may
// are zigzagged.
inline uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^
         static_cast<uint64_t>(value >> 63);
}
inline int64_t UnZigZag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

// Appends fields; those that are zero or empty are left out, as protobuf does.
class WireWriter {
 public:
  explicit WireWriter(size_t expected_bytes) { out_.reserve(expected_bytes); }

  void Varint(int field, uint64_t value);
  void Bytes(int field, absl::string_view bytes);
  template <class T>
  void Packed(int field, const std::vector<T>& column) {
    PackedAs(field, column, [](T entry) { return uint64_t(entry); });
  }
  void PackedSigned(int field, const std::vector<int64_t>& column) {
    PackedAs(field, column, ZigZag);
  }
  void PackedDoubles(int field, const std::vector<double>& column);

  std::string Take() { return std::move(out_); }

 private:
  static char* Put(char* to, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *to++ = static_cast<char>(value | 0x80);
    *to++ = static_cast<char>(value);
    return to;
  }
  void Append(uint64_t varint);
  void StartBytes(int field, size_t nbytes);

  template <class T, class Encoded>
  void PackedAs(int field, const std::vector<T>& column, Encoded encoded) {
    if (column.empty()) return;
    size_t nbytes = 0;
    for (T entry : column) nbytes += VarintSize(encoded(entry));
    StartBytes(field, nbytes);
    size_t begin = out_.size();
    out_.resize(begin + nbytes);
    char* to = out_.data() + begin;
    for (T entry : column) to = Put(to, encoded(entry));
  }

  std::string out_;
};

// Reads fields of untrusted bytes, which must outlive it. After a false all
// further results are meaningless.
class WireReader {
 public:
  explicit WireReader(absl::string_view bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool done() const { return at_ == end_; }
  // False: no valid field starts here. `is_bytes`: else it is a varint.
  bool Field(uint64_t* field, bool* is_bytes);
  bool Varint(uint64_t* value) { return GetVarint(&at_, end_, value); }
  bool Bytes(absl::string_view* bytes);

  // False: `value` is not all of one varint of at most 64 bits.
  static bool GetVarint(const char** at, const char* end, uint64_t* value) {
    if (*at == end) return false;
    uint8_t byte = **at;
    if (byte < 0x80) {  // nearly all
      *value = byte;
      ++*at;
      return true;
    }
    return GetLongVarint(at, end, value);
  }

 private:
  static bool GetLongVarint(const char** at, const char* end, uint64_t* value);

  const char* at_;
  const char* end_;
};

// How many varints `bytes` are.
size_t CountVarints(absl::string_view bytes);

// Fills `column` from a field's bytes. False: not packed entries of T's width.
template <class T, class Decoded>
bool UnpackAs(absl::string_view bytes, std::vector<T>* column,
              Decoded decoded) {
  column->resize(CountVarints(bytes));
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  for (T& entry : *column) {
    uint64_t value;
    if (!WireReader::GetVarint(&at, end, &value)) return false;
    entry = static_cast<T>(decoded(value));
    if (sizeof(T) < sizeof(value) && value != static_cast<uint64_t>(entry)) {
      return false;
    }
  }
  return at == end;
}
template <class T>
bool Unpack(absl::string_view bytes, std::vector<T>* column) {
  return UnpackAs(bytes, column, [](uint64_t value) { return value; });
}
inline bool UnpackSigned(absl::string_view bytes,
                         std::vector<int64_t>* column) {
  return UnpackAs(bytes, column, UnZigZag);
}
bool UnpackDoubles(absl::string_view bytes, std::vector<double>* column);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_WIRE_H_

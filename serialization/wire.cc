#include "serialization/wire.h"

namespace tensorferry {
namespace {

static_assert(std::endian::native == std::endian::little,
              "doubles are little-endian on the wire");

constexpr uint64_t kVarint = 0, kBytes = 2;  // protobuf's wire types

}  // namespace

void WireWriter::Append(uint64_t varint) {
  char buffer[10];
  out_.append(buffer, Put(buffer, varint) - buffer);
}

void WireWriter::StartBytes(int field, size_t nbytes) {
  Append(static_cast<uint64_t>(field) << 3 | kBytes);
  Append(nbytes);
}

void WireWriter::Varint(int field, uint64_t value) {
  if (value == 0) return;
  Append(static_cast<uint64_t>(field) << 3 | kVarint);
  Append(value);
}

void WireWriter::Bytes(int field, absl::string_view bytes) {
  if (bytes.empty()) return;
  StartBytes(field, bytes.size());
  out_.append(bytes.data(), bytes.size());
}

void WireWriter::PackedDoubles(int field, const std::vector<double>& column) {
  Bytes(field, {reinterpret_cast<const char*>(column.data()),
                column.size() * sizeof(double)});
}

bool WireReader::Field(uint64_t* field, bool* is_bytes) {
  uint64_t tag;
  if (!Varint(&tag)) return false;
  *field = tag >> 3;
  *is_bytes = (tag & 7) == kBytes;
  return *is_bytes || (tag & 7) == kVarint;
}

bool WireReader::Bytes(absl::string_view* bytes) {
  uint64_t size;
  if (!Varint(&size) || size > static_cast<uint64_t>(end_ - at_)) return false;
  *bytes = {at_, static_cast<size_t>(size)};
  at_ += size;
  return true;
}

bool WireReader::GetLongVarint(const char** at, const char* end,
                               uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && *at != end; shift += 7) {
    uint8_t byte = *(*at)++;
    if (shift == 63 && byte > 1) return false;
    *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

size_t CountVarints(absl::string_view bytes) {
  size_t count = 0;
  for (char byte : bytes) count += static_cast<uint8_t>(byte) < 0x80;
  return count;
}

bool UnpackDoubles(absl::string_view bytes, std::vector<double>* column) {
  if (bytes.size() % sizeof(double) != 0) return false;
  column->resize(bytes.size() / sizeof(double));
  if (!bytes.empty()) {
    std::memcpy(column->data(), bytes.data(), bytes.size());
  }
  return true;
}

}  // namespace tensorferry

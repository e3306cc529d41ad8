#ifndef TENSORFERRY_TRANSPORT_NOP_SCANNER_H_
#define TENSORFERRY_TRANSPORT_NOP_SCANNER_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace tensorferry {

// Reads values in libnop's encoding, in which tensorpipe writes its packets,
// and never past their end. Each method returns whether the value was there; on
// false nothing may be read any more.
class NopScanner {
 public:
  explicit NopScanner(absl::string_view bytes) : rest_(bytes) {}

  bool at_end() const { return rest_.empty(); }

  bool Unsigned(uint64_t& value);
  bool Signed(int64_t& value);
  bool String(absl::string_view& value);
  bool Binary(absl::string_view& value);
  // A value that may be missing: whether it is, which takes it.
  bool Nil();
  // What follows is so many members, elements, or keys with values.
  bool Structure(uint64_t members);
  bool Array(uint64_t& elements);
  bool Map(uint64_t& entries);
  // What follows is the alternative of that index.
  bool Variant(int64_t& index);

  // Any value, with all that it contains.
  bool Skip() { return Skip(0); }

 private:
  bool Prefix(uint8_t wanted);
  bool Bytes(uint64_t count, absl::string_view& bytes);
  bool LittleEndian(int count, uint64_t& value);
  bool Counted(uint8_t prefix, uint64_t& count);
  bool Skip(int depth);

  absl::string_view rest_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_NOP_SCANNER_H_

#include "catalog/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

using nlohmann::json;

constexpr char kMetadata[] = "__metadata__";
constexpr size_t kMaxRank = 64;

struct DtypeName {
  absl::string_view name;
  c10::ScalarType dtype;
};

constexpr std::array<DtypeName, 19> kDtypes = {{
    {"BOOL", c10::kBool},
    {"U8", c10::kByte},
    {"I8", c10::kChar},
    {"F8_E5M2", c10::kFloat8_e5m2},
    {"F8_E4M3", c10::kFloat8_e4m3fn},
    {"F8_E8M0", c10::ScalarType::Float8_e8m0fnu},
    {"F8_E4M3FNUZ", c10::kFloat8_e4m3fnuz},
    {"F8_E5M2FNUZ", c10::kFloat8_e5m2fnuz},
    {"I16", c10::kShort},
    {"U16", c10::kUInt16},
    {"F16", c10::kHalf},
    {"BF16", c10::kBFloat16},
    {"I32", c10::kInt},
    {"U32", c10::kUInt32},
    {"F32", c10::kFloat},
    {"C64", c10::kComplexFloat},
    {"F64", c10::kDouble},
    {"I64", c10::kLong},
    {"U64", c10::kUInt64},
}};

c10::ScalarType DtypeOf(absl::string_view name) {
  for (const DtypeName& known : kDtypes) {
    if (known.name == name) return known.dtype;
  }
  return c10::ScalarType::Undefined;
}

// A name as an error shows it: printable, and not a page long.
std::string Quoted(absl::string_view name) {
  constexpr size_t kShown = 128;
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, kShown)),
                      name.size() > kShown ? "..." : "", "\"");
}

// Takes the header as it is parsed. A tree of values would forget the order of
// the keys and that one came twice, and could be deeper than the stack.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  absl::Status status() const { return status_; }
  SafetensorsHeader TakeHeader() { return std::move(header_); }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("true or false"); }
  bool number_integer(number_integer_t value) override {
    return Unexpected(absl::StrCat("the negative number ", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Unexpected(absl::StrCat("the number ", text));
  }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (where_ != Where::kList) {
      return Unexpected(absl::StrCat("the number ", value));
    }
    if (list_.size() >= kMaxRank) {
      return Fail(absl::StrCat(Here(), ": more than ", kMaxRank, " numbers"));
    }
    list_.push_back(value);
    return true;
  }

  bool string(string_t& text) override {
    if (where_ == Where::kMetadata) {
      if (header_.metadata.emplace(key_, text).second) return true;
      return Fail(absl::StrCat(kMetadata, " has ", Quoted(key_), " twice"));
    }
    if (where_ != Where::kTensor || key_ != "dtype") return Unexpected("text");
    entry_.dtype = DtypeOf(text);
    if (entry_.dtype != c10::ScalarType::Undefined) return true;
    return Fail(absl::StrCat(Here(), ": libtorch has no dtype ", Quoted(text)));
  }

  bool start_object(std::size_t) override {
    switch (where_) {
      case Where::kStart:
        where_ = Where::kRoot;
        return true;
      case Where::kRoot:
        if (key_ == kMetadata) {
          where_ = Where::kMetadata;
          return true;
        }
        where_ = Where::kTensor;
        entry_ = SafetensorsEntry();
        entry_.name = key_;
        fields_.clear();
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    key_ = name;
    if (where_ == Where::kRoot && !names_.insert(name).second) {
      return Fail(absl::StrCat("the name ", Quoted(name), " comes twice"));
    }
    if (where_ != Where::kTensor) return true;
    if (name != "dtype" && name != "shape" && name != "data_offsets") {
      return Fail(absl::StrCat(Here(), ": not a field of a tensor"));
    }
    if (!fields_.insert(name).second) {
      return Fail(absl::StrCat(Here(), " comes twice"));
    }
    return true;
  }

  bool end_object() override {
    if (where_ == Where::kTensor) {
      where_ = Where::kRoot;
      return EndTensor();
    }
    where_ = where_ == Where::kMetadata ? Where::kRoot : Where::kEnd;
    return true;
  }

  bool start_array(std::size_t) override {
    if (where_ != Where::kTensor || key_ == "dtype") {
      return Unexpected("a list");
    }
    where_ = Where::kList;
    list_.clear();
    return true;
  }

  bool end_array() override {
    where_ = Where::kTensor;
    return key_ == "shape" ? EndShape() : EndOffsets();
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's text starts with "[json.exception...] ".
    absl::string_view what = error.what();
    what.remove_prefix(std::min(what.size(), what.find("] ") + 2));
    return Fail(absl::StrCat("offset ", 8 + position, ": ",
                             absl::CHexEscape(what.substr(0, 256))));
  }

 private:
  enum class Where { kStart, kRoot, kMetadata, kTensor, kList, kEnd };

  bool Fail(std::string message) {
    status_ = absl::InvalidArgumentError(message);
    return false;
  }

  std::string Here() const {
    switch (where_) {
      case Where::kMetadata:
        return absl::StrCat(kMetadata, " ", Quoted(key_));
      case Where::kTensor:
      case Where::kList:
        return absl::StrCat("tensor ", Quoted(entry_.name), ", ", Quoted(key_));
      case Where::kRoot:
        return absl::StrCat("tensor ", Quoted(key_));
      default:
        return "the header";
    }
  }

  bool Unexpected(absl::string_view what) {
    absl::string_view wanted = "an object";
    if (where_ == Where::kMetadata) wanted = "text";
    if (where_ == Where::kTensor) {
      wanted = key_ == "dtype" ? "text" : "a list of numbers";
    }
    if (where_ == Where::kList) wanted = "whole numbers that are not negative";
    return Fail(absl::StrCat(Here(), ": ", what, ", want ", wanted));
  }

  bool EndShape() {
    for (uint64_t size : list_) {
      if (size > uint64_t{INT64_MAX}) {
        return Fail(absl::StrCat(Here(), ": ", size, " is too large"));
      }
      entry_.shape.push_back(static_cast<int64_t>(size));
    }
    return true;
  }

  bool EndOffsets() {
    if (list_.size() != 2 || list_[0] > list_[1]) {
      return Fail(absl::StrCat(Here(), ": [", absl::StrJoin(list_, ", "),
                               "], want begin and end"));
    }
    entry_.begin = list_[0];
    entry_.end = list_[1];
    return true;
  }

  bool EndTensor() {
    if (fields_.size() < 3) {
      return Fail(absl::StrCat("tensor ", Quoted(entry_.name),
                               ": dtype, shape or data_offsets is missing"));
    }
    header_.entries.push_back(std::move(entry_));
    return true;
  }

  absl::Status status_;
  SafetensorsHeader header_;
  Where where_ = Where::kStart;
  std::string key_;               // the last one, at whatever level
  SafetensorsEntry entry_;        // kTensor, kList
  std::set<std::string> fields_;  // of entry_
  std::vector<uint64_t> list_;    // kList
  absl::flat_hash_set<std::string> names_;
};

absl::Status CheckLength(const SafetensorsEntry& entry) {
  unsigned __int128 bytes = c10::elementSize(entry.dtype);
  bool empty = false;
  for (int64_t size : entry.shape) {
    empty = empty || size == 0;
    // libtorch multiplies the other sizes into strides even if one is zero.
    bytes *= std::max<int64_t>(size, 1);
    if (bytes <= uint64_t{INT64_MAX}) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", Quoted(entry.name), ": ", SafetensorsDtype(entry.dtype), "[",
        absl::StrJoin(entry.shape, ", "), "] is more than 2^63 bytes"));
  }
  if (empty) bytes = 0;
  if (bytes == entry.nbytes()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor ", Quoted(entry.name), ": data_offsets [", entry.begin, ", ",
      entry.end, ") are ", entry.nbytes(), " bytes, but ",
      SafetensorsDtype(entry.dtype), "[", absl::StrJoin(entry.shape, ", "),
      "] takes ", static_cast<uint64_t>(bytes)));
}

// Every byte of the data belongs to exactly one of `entries`, which are in the
// order of their bytes.
absl::Status CheckCoverage(const std::vector<SafetensorsEntry>& entries,
                           uint64_t data_bytes) {
  uint64_t covered = 0;
  absl::string_view before;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin < covered) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(entry.name), " starts at data offset ",
                       entry.begin, ", before tensor ", Quoted(before),
                       " ends at ", covered, ": they overlap"));
    }
    if (entry.begin > covered) {
      return absl::InvalidArgumentError(absl::StrCat(
          "data bytes [", covered, ", ", entry.begin, ") before tensor ",
          Quoted(entry.name), " belong to no tensor: a gap"));
    }
    covered = entry.end;
    before = entry.name;
    if (covered > data_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Quoted(entry.name), " ends at data offset ", covered,
          ", but the file has only ", data_bytes, " bytes of data"));
    }
  }
  if (covered == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(data_bytes - covered,
                   " bytes after the last tensor, from "
                   "data offset ",
                   covered, " on, belong to no tensor"));
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view text,
                                                         uint64_t data_bytes) {
  if (text.size() > kMaxSafetensorsHeader) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header has ", text.size(), " bytes, at most ",
                     kMaxSafetensorsHeader, " are allowed"));
  }
  if (text.empty() || text[0] != '{') {
    return absl::InvalidArgumentError(
        "the header at offset 8 does not start with '{'");
  }
  // The JSON library takes a zero byte for the end of its input.
  if (size_t zero = text.find('\0'); zero != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", 8 + zero, ": a zero byte in the header"));
  }
  HeaderReader reader;
  if (!json::sax_parse(text.begin(), text.end(), &reader)) {
    return reader.status();
  }
  SafetensorsHeader header = reader.TakeHeader();
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                     return std::pair(a.begin, a.end) <
                            std::pair(b.begin, b.end);
                   });
  for (const SafetensorsEntry& entry : header.entries) {
    FERRY_RETURN_IF_ERROR(CheckLength(entry));
  }
  FERRY_RETURN_IF_ERROR(CheckCoverage(header.entries, data_bytes));
  return header;
}

std::string FormatSafetensorsHeader(const SafetensorsHeader& header) {
  const auto quote = [](const std::string& text) {
    return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::string text = "{";
  if (!header.metadata.empty()) {
    absl::StrAppend(&text, "\"", kMetadata, "\":",
                    json(header.metadata)
                        .dump(-1, ' ', false, json::error_handler_t::replace));
  }
  for (const SafetensorsEntry& entry : header.entries) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", quote(entry.name),
                    ":{\"dtype\":\"", SafetensorsDtype(entry.dtype),
                    "\",\"shape\":[", absl::StrJoin(entry.shape, ","),
                    "],\"data_offsets\":[", entry.begin, ",", entry.end, "]}");
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

absl::string_view SafetensorsDtype(c10::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  return "";
}

}  // namespace tensorferry

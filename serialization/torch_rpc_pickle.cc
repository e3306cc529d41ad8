#include "serialization/torch_rpc_pickle.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

// The opcodes of pickle's protocol 2 that the Pickler uses for tensors.
enum Op : char {
  kProto = '\x80',
  kStop = '.',
  kMark = '(',
  kTuple = 't',
  kTuple2 = '\x86',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kAppends = 'e',
  kSetItems = 'u',
  kReduce = 'R',
  kPersistentId = 'Q',
  kGlobal = 'c',
  kUnicode = 'X',
  kGet = 'h',
  kLongGet = 'j',
  kPut = 'q',
  kLongPut = 'r',
  kTrue = '\x88',
  kFalse = '\x89',
  kInt1 = 'K',
  kInt2 = 'M',
  kInt4 = 'J',
  kInt8 = '\x8a',
  kFloat = 'G',
};

// Null if there is no such storage class.
const c10::ScalarType* ScalarTypeOfStorage(absl::string_view global) {
  static const auto* types = [] {
    auto* map = new absl::flat_hash_map<std::string, c10::ScalarType>;
    for (int i = 0; i < static_cast<int>(c10::ScalarType::Undefined); ++i) {
      auto type = static_cast<c10::ScalarType>(i);
      map->emplace(absl::StrCat("torch\n", c10::toString(type), "Storage"),
                   type);
    }
    return map;
  }();
  auto found = types->find(global);
  return found == types->end() ? nullptr : &found->second;
}

// Reads by recursive descent. Everything that can follow is known, so there is
// no stack machine: a pickle cannot nest deeper than the functions below. The
// first error stays; after it all reads give nothing.
class Reader {
 public:
  Reader(absl::string_view bytes, const Limits& limits)
      : bytes_(bytes), limits_(limits) {}

  absl::StatusOr<PickledTensors> ReadMessage() {
    Expect(kProto);
    if (ReadByte() != 2) Fail("is not of protocol 2");
    ExpectGlobal("torch.jit._pickle\nbuild_tensorlist");
    Expect(kMark);
    Expect(kEmptyList);
    Expect(kMark);
    while (ok() && Peek() != kAppends) ReadTensor();
    Expect(kAppends);
    Expect(kTuple);
    Expect(kReduce);
    Expect(kStop);
    if (ok() && at_ != bytes_.size()) Fail("goes on after its end");
    if (!ok()) return status_;
    return std::move(result_);
  }

 private:
  // What the Pickler writes once and refers to afterwards.
  struct Memo {
    enum Kind { kGlobalName, kString, kStorage, kTensor } kind;
    absl::string_view text;
    int number = 0;
  };

  bool ok() const { return status_.ok(); }

  void Fail(absl::string_view what) {
    if (!ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("pickle of the tensors: byte ", at_, " of ", bytes_.size(),
                     ": ", what));
  }

  // --- bytes ---

  char Peek() {
    if (ok() && at_ >= bytes_.size()) Fail("ends too early");
    return ok() ? bytes_[at_] : '\0';
  }

  absl::string_view ReadBytes(size_t count) {
    if (ok() && bytes_.size() - at_ < count) Fail("ends too early");
    if (!ok()) return "";
    absl::string_view read = bytes_.substr(at_, count);
    at_ += count;
    return read;
  }

  template <class T>
  T ReadRaw() {
    absl::string_view read = ReadBytes(sizeof(T));
    T value = 0;
    if (ok()) std::memcpy(&value, read.data(), sizeof(T));
    return value;
  }
  uint8_t ReadByte() { return ReadRaw<uint8_t>(); }

  bool Skip(char op) {
    if (Peek() != op || !ok()) return false;
    ++at_;
    return true;
  }

  void Expect(char op) {
    if (Skip(op) || !ok()) return;
    Fail(absl::StrCat("opcode \"", absl::CHexEscape(bytes_.substr(at_, 1)),
                      "\", want \"",
                      absl::CHexEscape(absl::string_view(&op, 1)), "\""));
  }

  absl::string_view ReadLine() {
    size_t end = bytes_.find('\n', at_);
    if (end == absl::string_view::npos) Fail("a name without end");
    if (!ok()) return "";
    absl::string_view line = ReadBytes(end - at_);
    ++at_;
    return line;
  }

  // --- the memo ---

  // The Pickler numbers without gaps.
  void Remember(Memo::Kind kind, absl::string_view text, int number = 0) {
    uint32_t id = memo_.size() < 256 ? (Expect(kPut), ReadByte())
                                     : (Expect(kLongPut), ReadRaw<uint32_t>());
    if (id != memo_.size()) Fail(absl::StrCat("memo ", id, " out of turn"));
    memo_.push_back({kind, text, number});
  }

  // Null: what follows is no reference to something of `kind`.
  const Memo* Recall(Memo::Kind kind) {
    char op = Peek();
    if (op != kGet && op != kLongGet) return nullptr;
    size_t begin = at_++;
    uint32_t id = op == kGet ? ReadByte() : ReadRaw<uint32_t>();
    if (ok() && id >= memo_.size()) Fail(absl::StrCat("no memo ", id));
    if (!ok()) return nullptr;
    if (memo_[id].kind == kind) return &memo_[id];
    at_ = begin;
    return nullptr;
  }

  // --- simple values ---

  // "module\nname".
  absl::string_view ReadGlobal() {
    if (const Memo* memo = Recall(Memo::kGlobalName)) return memo->text;
    Expect(kGlobal);
    size_t begin = at_;
    ReadLine();
    ReadLine();
    if (!ok()) return "";
    absl::string_view name = bytes_.substr(begin, at_ - 1 - begin);
    Remember(Memo::kGlobalName, name);
    return name;
  }

  void ExpectGlobal(absl::string_view name) {
    absl::string_view found = ReadGlobal();
    if (ok() && found != name) FailOnGlobal(found);
  }

  void FailOnGlobal(absl::string_view name) {
    Fail(absl::StrCat("\"", absl::CHexEscape(name.substr(0, 80)),
                      "\" does not belong here"));
  }

  absl::string_view ReadString() {
    if (const Memo* memo = Recall(Memo::kString)) return memo->text;
    Expect(kUnicode);
    absl::string_view text = ReadBytes(ReadRaw<uint32_t>());
    Remember(Memo::kString, text);
    return text;
  }

  void ExpectString(absl::string_view text) {
    absl::string_view found = ReadString();
    if (!ok() || found == text) return;
    Fail(absl::StrCat("\"", absl::CHexEscape(found.substr(0, 80)),
                      "\", want \"", text, "\""));
  }

  bool ReadBool() {
    if (Skip(kTrue)) return true;
    Expect(kFalse);
    return false;
  }

  int64_t ReadInt() {
    if (Skip(kInt1)) return ReadByte();
    if (Skip(kInt2)) return ReadRaw<uint16_t>();
    if (Skip(kInt4)) return ReadRaw<int32_t>();
    Expect(kInt8);
    if (ReadByte() != 8) Fail("an integer that is not of 8 bytes");
    return ReadRaw<int64_t>();
  }

  double ReadDouble() {
    Expect(kFloat);
    uint64_t bits = __builtin_bswap64(ReadRaw<uint64_t>());
    double value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }

  std::vector<int64_t> ReadInts() {
    std::vector<int64_t> ints;
    Expect(kMark);
    while (ok() && Peek() != kTuple) {
      if (ints.size() >= limits_.rank) {
        status_ = absl::ResourceExhaustedError(absl::StrCat(
            "a tensor of more than ", limits_.rank, " dimensions (rank)"));
        break;
      }
      ints.push_back(ReadInt());
    }
    Expect(kTuple);
    return ints;
  }

  // --- tensors ---

  int ReadStorage() {
    if (const Memo* memo = Recall(Memo::kStorage)) return memo->number;
    int number = static_cast<int>(result_.storages.size());
    Expect(kMark);
    ExpectString("storage");
    absl::string_view global = ReadGlobal();
    const c10::ScalarType* dtype = ScalarTypeOfStorage(global);
    if (ok() && dtype == nullptr) FailOnGlobal(global);
    ExpectString(absl::StrCat(number));
    ReadString();  // the sender's device
    int64_t numel = ReadInt();
    if (numel < 0) Fail("a storage of less than nothing");
    Expect(kTuple);
    Expect(kPersistentId);
    Remember(Memo::kStorage, "", number);
    if (ok()) result_.storages.push_back({*dtype, numel});
    return number;
  }

  // The backward hooks, always none.
  void ReadHooks() {
    ExpectGlobal("collections\nOrderedDict");
    Expect(kEmptyTuple);
    Expect(kReduce);
  }

  // The dictionary of conj and neg, if there is one.
  void ReadMathBits(PickledWindow* window) {
    if (Peek() == kTuple) return;
    ExpectGlobal("torch.jit._pickle\nrestore_type_tag");
    Expect(kEmptyDict);
    Expect(kMark);
    while (ok() && Peek() != kSetItems) {
      absl::string_view key = ReadString();
      if (key != "conj" && key != "neg") Fail("neither conj nor neg");
      (key == "conj" ? window->conj : window->neg) = ReadBool();
    }
    Expect(kSetItems);
    ExpectString("Dict[str, bool]");
    Expect(kTuple2);
    Expect(kReduce);
  }

  // The arguments that all strided tensors begin with.
  PickledWindow ReadWindow() {
    PickledWindow window;
    window.storage = ReadStorage();
    window.offset = ReadInt();
    window.sizes = ReadInts();
    window.strides = ReadInts();
    if (window.sizes.size() != window.strides.size()) {
      Fail("not as many strides as sizes");
    }
    return window;
  }

  PickledWindow ReadDenseArguments() {
    Expect(kMark);
    PickledWindow window = ReadWindow();
    window.requires_grad = ReadBool();
    ReadHooks();
    ReadMathBits(&window);
    Expect(kTuple);
    return window;
  }

  PickledWindow ReadDense() {
    ExpectGlobal("torch._utils\n_rebuild_tensor_v2");
    PickledWindow window = ReadDenseArguments();
    Expect(kReduce);
    return window;
  }

  void ReadQuantiser(PickledTensor* tensor) {
    Expect(kMark);
    absl::string_view scheme = ReadGlobal();
    if (scheme == "torch\nper_tensor_affine") {
      tensor->scale = ReadDouble();
      tensor->zero_point = ReadInt();
    } else if (scheme == "torch\nper_channel_affine" ||
               scheme == "torch\nper_channel_affine_float_qparams") {
      tensor->qscheme = scheme == "torch\nper_channel_affine"
                            ? c10::kPerChannelAffine
                            : c10::kPerChannelAffineFloatQParams;
      tensor->parts.push_back(ReadDense());
      tensor->parts.push_back(ReadDense());
      tensor->axis = ReadInt();
    } else {
      FailOnGlobal(scheme);
    }
    Expect(kTuple);
  }

  void ReadQuantisedArguments(PickledTensor* tensor) {
    tensor->quantised = true;
    Expect(kMark);
    tensor->parts.push_back(ReadWindow());
    ReadQuantiser(tensor);
    tensor->parts[0].requires_grad = ReadBool();
    ReadHooks();
    Expect(kTuple);
  }

  void ReadSparseArguments(PickledTensor* tensor) {
    Expect(kMark);
    int64_t layout = ReadInt();
    tensor->layout = static_cast<c10::Layout>(layout);
    if (layout != static_cast<int64_t>(c10::kSparse) &&
        layout != static_cast<int64_t>(c10::kSparseCsr)) {
      Fail(absl::StrCat("sparse layout number ", layout));
    }
    tensor->sizes = ReadInts();
    tensor->requires_grad = ReadBool();
    for (int part = tensor->layout == c10::kSparse ? 2 : 3; part > 0; --part) {
      tensor->parts.push_back(ReadDense());
    }
    ReadHooks();
    Expect(kTuple);
  }

  void ReadTensor() {
    if (result_.list.size() >= limits_.tensors) {
      status_ = absl::ResourceExhaustedError(
          absl::StrCat("more than ", limits_.tensors, " tensors"));
      return;
    }
    if (const Memo* memo = Recall(Memo::kTensor)) {
      result_.list.push_back(memo->number);
      return;
    }
    int number = static_cast<int>(result_.tensors.size());
    PickledTensor tensor;
    absl::string_view how = ReadGlobal();
    if (how == "torch._utils\n_rebuild_tensor_v2") {
      tensor.parts.push_back(ReadDenseArguments());
    } else if (how == "torch._utils\n_rebuild_qtensor") {
      ReadQuantisedArguments(&tensor);
    } else if (how == "torch._utils\n_rebuild_sparse_tensor") {
      ReadSparseArguments(&tensor);
    } else {
      FailOnGlobal(how);
    }
    Expect(kReduce);
    char next = Peek();  // the Pickler remembers it only if others hold it
    if (next == kPut || next == kLongPut) Remember(Memo::kTensor, "", number);
    result_.tensors.push_back(std::move(tensor));
    result_.list.push_back(number);
  }

  absl::string_view bytes_;
  const Limits& limits_;
  size_t at_ = 0;
  absl::Status status_;
  std::vector<Memo> memo_;
  PickledTensors result_;
};

}  // namespace

absl::StatusOr<PickledTensors> ReadPickledTensors(absl::string_view pickle,
                                                  const Limits& limits) {
  return Reader(pickle, limits).ReadMessage();
}

}  // namespace tensorferry

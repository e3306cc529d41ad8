#include "transport/tensorpipe_abi.h"

#include <dlfcn.h>
#include <tensorpipe/tensorpipe.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/hub_error.h"
#include "transport/packets.h"

namespace tensorferry {
namespace {

// Part of what is passed by value or filled in by tensorpipe.
static_assert(sizeof(nop::Status<void>) == 4);
static_assert(!std::is_trivially_copyable_v<nop::Status<void>>);
static_assert(sizeof(tensorpipe::NopReader) == 4 * sizeof(void*));
static_assert(sizeof(tensorpipe::NopWriter) == 4 * sizeof(void*));
static_assert(sizeof(tensorpipe::Error) == 56);
static_assert(sizeof(tensorpipe::Buffer) == 32);

absl::Status Differs(absl::string_view how) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the tensorpipe in this process is not the one that tensorferry's "
      "transport and channel were written for (",
      std::string(how), "); use the libtorch that README.md names"));
}

// The two entries before the first function are the offset and the type.
constexpr size_t kBeforeFunctions = 2;

std::string NameOf(const void* function) {
  Dl_info info{};
  const bool known = dladdr(function, &info) != 0 &&
                     info.dli_sname != nullptr && info.dli_saddr == function;
  return known ? info.dli_sname : "";
}

// The classes of uv, a transport, and of basic, a channel, as the compiler
// writes their names; they implement each interface in order.
std::string UvClass(absl::string_view boilerplate) {
  return absl::StrCat(
      "10tensorpipe9transport", boilerplate.size(), std::string(boilerplate),
      "INS0_2uv11ContextImplENS2_12ListenerImplENS2_14ConnectionImplEE");
}

std::string BasicClass(absl::string_view boilerplate) {
  return absl::StrCat("10tensorpipe7channel", boilerplate.size(),
                      std::string(boilerplate),
                      "INS0_5basic11ContextImplENS2_11ChannelImplEE");
}

// Stands in for a peer: looks at the packets with which a pipe is opened, and
// at what a channel does.
class Probe final : public tensorpipe::transport::Connection {
 public:
  void read(read_callback_fn fn) override { Keep(std::move(fn)); }
  void read(void* ptr, size_t length, read_callback_fn fn) override {
    read_into = {ptr, length};
    fn(tensorpipe::Error::kSuccess, ptr, length);
  }
  void write(const void* ptr, size_t length, write_callback_fn fn) override {
    written_from = {ptr, length};
    fn(tensorpipe::Error::kSuccess);
  }
  void write(const tensorpipe::AbstractNopHolder& object,
             write_callback_fn fn) override {
    std::string bytes(object.getSize(), 0);
    tensorpipe::NopWriter writer{
        .ptr1 = reinterpret_cast<uint8_t*>(bytes.data()), .len1 = bytes.size()};
    if (object.write(writer).has_error() || writer.len1 != 0) {
      bytes.clear();
    }
    written.push_back(std::move(bytes));
    fn(tensorpipe::Error::kSuccess);
  }
  void read(tensorpipe::AbstractNopHolder& object,
            read_nop_callback_fn fn) override {
    // An answer that says nothing, whole and with another value in its place.
    read_good = Reads(object, {"\xb9\x07\xbd\x00\xbd\x00\xbb\x00\xbd\x00\xbb"
                               "\x00\xbb\x00\xbb\x00",
                               16});
    read_bad = Reads(object, {"\xbe\xbe", 2});
    on_close_.push_back(
        [fn = std::move(fn)](const tensorpipe::Error& error) { fn(error); });
  }
  void setId(std::string) override {}
  void close() override {
    const auto error = ToTensorpipeError(absl::CancelledError("probed"));
    for (auto& fn : std::exchange(on_close_, {})) fn(error);
  }

  std::vector<std::string> written;
  std::pair<void*, size_t> read_into;
  std::pair<const void*, size_t> written_from;
  bool read_good = false;
  bool read_bad = true;

 private:
  static bool Reads(tensorpipe::AbstractNopHolder& object,
                    absl::string_view bytes) {
    tensorpipe::NopReader reader{
        .ptr1 = reinterpret_cast<const uint8_t*>(bytes.data()),
        .len1 = bytes.size()};
    return !object.read(reader).has_error() && reader.len1 == 0;
  }
  void Keep(read_callback_fn fn) {
    on_close_.push_back([fn = std::move(fn)](const tensorpipe::Error& error) {
      fn(error, nullptr, 0);
    });
  }

  std::vector<std::function<void(const tensorpipe::Error&)>> on_close_;
};

class ProbeContext final : public tensorpipe::transport::Context {
 public:
  explicit ProbeContext(std::shared_ptr<Probe> probe)
      : probe_(std::move(probe)) {}
  std::shared_ptr<tensorpipe::transport::Connection> connect(
      std::string) override {
    return probe_;
  }
  std::shared_ptr<tensorpipe::transport::Listener> listen(
      std::string) override {
    return nullptr;
  }
  bool isViable() const override { return true; }
  const std::string& domainDescriptor() const override { return domain_; }
  void setId(std::string) override {}
  void close() override {}
  void join() override {}

 private:
  const std::shared_ptr<Probe> probe_;
  const std::string domain_ = "probe domain";
};

absl::Status CheckPackets() {
  auto probe = std::make_shared<Probe>();
  tensorpipe::Context context;
  context.registerTransport(0, "probe", std::make_shared<ProbeContext>(probe));
  context.connect("probe://peer")->close();
  context.join();
  if (probe->written.size() != 2) return Differs("a pipe opens otherwise");
  auto hello = ReadHello(probe->written[0]);
  auto brochure = ReadBrochure(probe->written[1]);
  if (!hello.ok() || !hello->opens_pipe || !brochure.ok() ||
      brochure->transports["probe"] != "probe domain") {
    return Differs("it writes other packets");
  }
  if (!probe->read_good || probe->read_bad) {
    return Differs("it reads other packets");
  }
  return absl::OkStatus();
}

// tensorpipe's channel basic hands a buffer on to its connection.
absl::Status CheckBuffers() {
  auto probe = std::make_shared<Probe>();
  auto context = tensorpipe::channel::basic::create();
  const tensorpipe::Device cpu(tensorpipe::kCpuDeviceType, 0);
  if (!context->isViable() || context->numConnectionsNeeded() != 1 ||
      context->deviceDescriptors().count(cpu) != 1) {
    return Differs("its channel basic is another one");
  }
  auto channel =
      context->createChannel({probe}, tensorpipe::channel::Endpoint::kConnect);
  char bytes[2];
  int done = 0;
  const auto count = [&](const tensorpipe::Error& error) { done += !error; };
  channel->send(tensorpipe::CpuBuffer{.ptr = &bytes[0]}, 1, count);
  channel->recv(tensorpipe::CpuBuffer{.ptr = &bytes[1]}, 1, count);
  channel->close();
  context->join();
  if (done != 2 ||
      probe->written_from != std::pair<const void*, size_t>(&bytes[0], 1) ||
      probe->read_into != std::pair<void*, size_t>(&bytes[1], 1)) {
    return Differs("a channel takes other buffers");
  }
  return absl::OkStatus();
}

absl::Status Check() {
  for (const VirtualTable& table : TensorpipeVirtualTables()) {
    FERRY_RETURN_IF_ERROR(CheckVirtualTable(table));
  }
  try {
    FERRY_RETURN_IF_ERROR(CheckPackets());
    return CheckBuffers();
  } catch (const std::exception& e) {
    return Differs(e.what());
  }
}

}  // namespace

std::vector<VirtualTable> TensorpipeVirtualTables() {
  const std::string string =
      "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
  const std::string on_bytes = "St8functionIFvRKNS_5ErrorEPKvmEE";
  const std::string on_done = "St8functionIFvRKNS_5ErrorEEE";
  const std::string set_id = absl::StrCat("5setIdE", string);
  return {
      {UvClass("ConnectionBoilerplate"),
       {absl::StrCat("4readE", on_bytes), absl::StrCat("4readEPvm", on_bytes),
        absl::StrCat("5writeEPKvm", on_done),
        absl::StrCat("4readERNS_17AbstractNopHolderE", on_done),
        absl::StrCat("5writeERKNS_17AbstractNopHolderE", on_done), set_id,
        "5closeEv", "D1Ev", "D0Ev"}},
      {UvClass("ListenerBoilerplate"),
       {"6acceptESt8functionIFvRKNS_5ErrorESt10shared_ptrINS0_10ConnectionEEEE",
        "K4addrB5cxx11Ev", set_id, "5closeEv", "D1Ev", "D0Ev"}},
      {UvClass("ContextBoilerplate"),
       {absl::StrCat("7connectE", string), absl::StrCat("6listenE", string),
        "K8isViableEv", "K16domainDescriptorB5cxx11Ev", "", set_id, "5closeEv",
        "4joinEv", "D1Ev", "D0Ev"}},
      {BasicClass("ChannelBoilerplate"),
       {absl::StrCat("4sendENS_6BufferEm", on_done),
        absl::StrCat("4recvENS_6BufferEm", on_done), set_id, "5closeEv", "D1Ev",
        "D0Ev"}},
      {BasicClass("ContextBoilerplate"),
       {"K8isViableEv", "K20numConnectionsNeededEv",
        "K17deviceDescriptorsB5cxx11Ev",
        "K24canCommunicateWithRemoteERKNSt7__cxx1112basic_stringIcSt11char_"
        "traitsIcESaIcEEESD_",
        "13createChannelESt6vectorISt10shared_ptrINS_9transport10ConnectionEE"
        "SaISA_EENS0_8EndpointE",
        set_id, "5closeEv", "4joinEv", "D1Ev", "D0Ev"}},
  };
}

// From a name to its address, which the loader finds by hash; to ask dladdr for
// the names took 40 ms, since it looks through all that libtorch exports.
absl::Status CheckVirtualTable(const VirtualTable& expected) {
  const std::string symbol = absl::StrCat("_ZTVN", expected.of, "E");
  auto* table = static_cast<void* const*>(dlsym(RTLD_DEFAULT, symbol.c_str()));
  if (table == nullptr) return Differs(absl::StrCat("it has no ", symbol));
  for (size_t i = 0; i < expected.functions.size(); ++i) {
    absl::string_view name = expected.functions[i];
    if (name.empty()) continue;
    const bool is_const = absl::ConsumePrefix(&name, "K");
    const std::string want =
        absl::StrCat(is_const ? "_ZNK" : "_ZN", expected.of, std::string(name));
    const void* got = table[kBeforeFunctions + i];
    if (got != dlsym(RTLD_DEFAULT, want.c_str())) {
      return Differs(absl::StrCat("function ", i, " of ", symbol, " is '",
                                  NameOf(got), "', not '", want, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTensorpipeAbi() {
  static const auto* const status = new absl::Status(Check());
  return *status;
}

}  // namespace tensorferry

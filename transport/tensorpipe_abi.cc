#include "transport/tensorpipe_abi.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <tensorpipe/tensorpipe.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
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
  if (dladdr(function, &info) == 0 || info.dli_sname == nullptr ||
      info.dli_saddr != function) {
    return "";
  }
  int status = 0;
  char* demangled =
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = demangled != nullptr ? demangled : info.dli_sname;
  std::free(demangled);
  return name;
}

// What the classes of uv, a transport, and of basic, a channel, are called;
// they implement each interface in order.
std::string UvTable(absl::string_view boilerplate) {
  return absl::StrCat(
      "_ZTVN10tensorpipe9transport", boilerplate.size(),
      std::string(boilerplate),
      "INS0_2uv11ContextImplENS2_12ListenerImplENS2_14ConnectionImplEEE");
}

std::string BasicTable(absl::string_view boilerplate) {
  return absl::StrCat("_ZTVN10tensorpipe7channel", boilerplate.size(),
                      std::string(boilerplate),
                      "INS0_5basic11ContextImplENS2_11ChannelImplEEE");
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
  const std::string error = "tensorpipe::Error const&";
  const std::string on_bytes = absl::StrCat("std::function<void (", error,
                                            ", void const*, unsigned long)>)");
  const std::string on_done =
      absl::StrCat("std::function<void (", error, ")>)");
  const std::string packet = "tensorpipe::AbstractNopHolder";
  const std::string buffer = "tensorpipe::Buffer, unsigned long, ";
  return {
      {UvTable("ConnectionBoilerplate"),
       {absl::StrCat("::read(", on_bytes),
        absl::StrCat("::read(void*, unsigned long, ", on_bytes),
        absl::StrCat("::write(void const*, unsigned long, ", on_done),
        absl::StrCat("::read(", packet, "&, ", on_done),
        absl::StrCat("::write(", packet, " const&, ", on_done), "::setId(",
        "::close()", "::~", "::~"}},
      {UvTable("ListenerBoilerplate"),
       {absl::StrCat("::accept(std::function<void (", error,
                     ", std::shared_ptr<tensorpipe::transport::Connection>)>)"),
        "::addr", "::setId(", "::close()", "::~", "::~"}},
      {UvTable("ContextBoilerplate"),
       {"::connect(", "::listen(", "::isViable() const", "::domainDescriptor",
        "", "::setId(", "::close()", "::join()", "::~", "::~"}},
      {BasicTable("ChannelBoilerplate"),
       {absl::StrCat("::send(", buffer, on_done),
        absl::StrCat("::recv(", buffer, on_done), "::setId(", "::close()",
        "::~", "::~"}},
      {BasicTable("ContextBoilerplate"),
       {"::isViable() const", "::numConnectionsNeeded() const",
        "::deviceDescriptors", "::canCommunicateWithRemote(",
        "::createChannel(std::vector<std::shared_ptr<tensorpipe::transport::"
        "Connection>",
        "::setId(", "::close()", "::join()", "::~", "::~"}},
  };
}

absl::Status CheckVirtualTable(const VirtualTable& expected) {
  auto* table =
      static_cast<void* const*>(dlsym(RTLD_DEFAULT, expected.symbol.c_str()));
  if (table == nullptr) {
    return Differs(absl::StrCat("it has no ", expected.symbol));
  }
  for (size_t i = 0; i < expected.functions.size(); ++i) {
    const std::string& want = expected.functions[i];
    const std::string got = NameOf(table[kBeforeFunctions + i]);
    if (!absl::StrContains(got, want)) {
      return Differs(absl::StrCat("function ", i, " of ", expected.symbol,
                                  " is '", got, "', not '", want, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTensorpipeAbi() {
  static const auto* const status = new absl::Status(Check());
  return *status;
}

}  // namespace tensorferry

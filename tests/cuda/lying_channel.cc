#include "tests/cuda/lying_channel.h"

#include <cuda_runtime_api.h>
#include <tensorpipe/tensorpipe.h>
#include <tensorpipe/tensorpipe_cuda.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {
namespace {

using tensorpipe::AbstractNopHolder;
using tensorpipe::transport::Connection;
using Connections = std::vector<std::shared_ptr<Connection>>;

std::string BytesOf(const AbstractNopHolder& packet) {
  std::string bytes(packet.getSize(), 0);
  tensorpipe::NopWriter writer;
  writer.ptr1 = reinterpret_cast<uint8_t*>(bytes.data());
  writer.len1 = bytes.size();
  packet.write(writer);
  bytes.resize(bytes.size() - writer.len1);
  return bytes;
}

class BytesPacket final : public AbstractNopHolder {
 public:
  explicit BytesPacket(std::string bytes) : bytes_(std::move(bytes)) {}
  size_t getSize() const override { return bytes_.size(); }
  nop::Status<void> write(tensorpipe::NopWriter& writer) const override {
    std::memcpy(writer.ptr1, bytes_.data(), bytes_.size());
    writer.ptr1 += bytes_.size();
    writer.len1 -= bytes_.size();
    return {};
  }
  nop::Status<void> read(tensorpipe::NopReader&) override { return {}; }

 private:
  const std::string bytes_;
};

std::string HandleOfSmallMemory() {
  void* memory = nullptr;
  cudaIpcMemHandle_t handle;
  if (cudaMalloc(&memory, 1 << 20) != cudaSuccess ||
      cudaIpcGetMemHandle(&handle, memory) != cudaSuccess) {
    std::abort();
  }
  return std::string(reinterpret_cast<const char*>(&handle), sizeof(handle));
}

// A chunk: two bytes of a structure's, device, slot, the outbox or nil. An
// outbox: two bytes of a structure's, the text of the process, the handle of
// its memory, two bytes of an array's, the handles of the events; each text
// with two bytes ahead.
class Liar {
 public:
  explicit Liar(std::string lie) : lie_(std::move(lie)) {}

  std::string Say(std::string chunk) {
    const bool has_outbox = chunk.size() > 5;
    if (has_outbox) outbox_ = chunk.substr(4);
    if (lie_ == "slot") chunk[3] = 4;
    if (lie_ == "device") chunk[2] = '\xff';
    if (lie_ == "untold") chunk.replace(4, chunk.npos, "\xbe");
    if (lie_ == "twice") chunk.replace(4, chunk.npos, outbox_);
    if (!has_outbox) return chunk;
    const size_t process = 8, length = static_cast<uint8_t>(chunk[7]);
    const size_t memory = process + length + 2, event = memory + 64 + 4;
    if (lie_ == "process") chunk[process + length - 1] ^= 1;
    if (lie_ == "memory") chunk.replace(memory, 64, std::string(64, 0));
    if (lie_ == "event") chunk.replace(event, 64, std::string(64, 0));
    if (lie_ == "small") chunk.replace(memory, 64, HandleOfSmallMemory());
    if (lie_ == "name" && ++outboxes_ > 1) {
      chunk[process] ^= 1;
      chunk.replace(memory, 64, std::string(64, 0));
    }
    return chunk;
  }

 private:
  const std::string lie_;
  std::string outbox_;
  int outboxes_ = 0;
};

class LyingConnection final : public Connection {
 public:
  LyingConnection(std::shared_ptr<Connection> connection,
                  const std::string& lie)
      : connection_(std::move(connection)), liar_(lie) {}

  void read(read_callback_fn fn) override { connection_->read(std::move(fn)); }
  void read(void* ptr, size_t length, read_callback_fn fn) override {
    connection_->read(ptr, length, std::move(fn));
  }
  void write(const void* ptr, size_t length, write_callback_fn fn) override {
    connection_->write(ptr, length, std::move(fn));
  }
  void read(AbstractNopHolder& object, read_nop_callback_fn fn) override {
    connection_->read(object, std::move(fn));
  }
  void write(const AbstractNopHolder& object, write_callback_fn fn) override {
    auto packet = std::make_shared<BytesPacket>(liar_.Say(BytesOf(object)));
    connection_->write(
        *packet, [packet, fn = std::move(fn)](const tensorpipe::Error& error) {
          fn(error);
        });
  }
  void setId(std::string id) override { connection_->setId(std::move(id)); }
  void close() override { connection_->close(); }

 private:
  const std::shared_ptr<Connection> connection_;
  Liar liar_;
};

class LyingContext final : public tensorpipe::channel::Context {
 public:
  LyingContext(std::shared_ptr<tensorpipe::channel::Context> context,
               std::string lie)
      : context_(std::move(context)),
        lie_(std::move(lie)),
        devices_(context_->deviceDescriptors()) {}

  bool isViable() const override { return context_->isViable(); }
  size_t numConnectionsNeeded() const override { return 2; }
  const std::unordered_map<tensorpipe::Device, std::string>& deviceDescriptors()
      const override {
    return devices_;
  }
  bool canCommunicateWithRemote(const std::string&,
                                const std::string&) const override {
    return true;
  }
  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      Connections connections, tensorpipe::channel::Endpoint end) override {
    for (auto& connection : connections) {
      connection =
          std::make_shared<LyingConnection>(std::move(connection), lie_);
    }
    return context_->createChannel(std::move(connections), end);
  }
  void setId(std::string id) override { context_->setId(std::move(id)); }
  void close() override { context_->close(); }
  void join() override { context_->join(); }

  void DescribeAllAs(const std::string& text) {
    for (auto& [device, descriptor] : devices_) descriptor = text;
  }

 private:
  const std::shared_ptr<tensorpipe::channel::Context> context_;
  const std::string lie_;
  std::unordered_map<tensorpipe::Device, std::string> devices_;
};

}  // namespace

ChannelBackend LyingChannel(const std::string& channel,
                            const std::string& lie) {
  ChannelBackend backend;
  backend.name = channel;
  backend.carries = {{"cuda", "cuda"}};
  backend.make = [channel, lie](const ChannelEnvironment&) {
    if (channel == "cuda_ipc") {
      return std::make_shared<LyingContext>(
          tensorpipe::channel::cuda_ipc::create(), lie);
    }
    auto context = std::make_shared<LyingContext>(
        tensorpipe::channel::cuda_xth::create(), "");
    context->DescribeAllAs(lie);
    return context;
  };
  return backend;
}

}  // namespace tensorferry

#include "tests/transfer/raw_peer.h"

#include <signal.h>

#include <future>
#include <utility>

#include "base/status_macros.h"

namespace tensorferry {
namespace {

// What a message points to, until the transport has it.
struct Sent {
  std::string frame, inline_bytes;
  std::vector<std::string> pieces;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RawPeer>> RawPeer::Connect(
    const std::string& address, const std::string& key,
    const TransferRules& rules) {
  // Endpoints see to this by themselves, bare tensorpipe does not.
  signal(SIGPIPE, SIG_IGN);
  std::unique_ptr<RawPeer> peer(new RawPeer);
  peer->context_ = std::make_unique<tensorpipe::Context>();
  auto basic = tensorpipe::channel::basic::create();
  HelloFrame hello;
  for (const auto& [device, text] : basic->deviceDescriptors()) {
    hello.channels.push_back({"basic", device.type, device.index, text});
  }
  peer->context_->registerTransport(0, "uv",
                                    tensorpipe::transport::uv::create());
  peer->context_->registerChannel(0, "basic", basic);
  hello.session_id = rules.session_id;
  hello.key = key;
  hello.generation = 1;
  hello.lanes = 1 + rules.limits.body_lanes;
  for (uint32_t lane = 0; lane < hello.lanes; ++lane) {
    peer->lanes_.push_back(peer->context_->connect(address));
    hello.lane = lane;
    auto sent = std::make_shared<Sent>();
    tensorpipe::Message message;
    message.metadata = EncodeFrame(hello);
    peer->SendMessage(static_cast<int>(lane), std::move(message));
  }
  for (uint32_t lane = 0; lane < hello.lanes; ++lane) {
    FERRY_RETURN_IF_ERROR(peer->NextOn(static_cast<int>(lane)).status());
  }
  return peer;
}

RawPeer::~RawPeer() {
  context_->close();
  context_->join();
}

void RawPeer::SendMessage(int lane, tensorpipe::Message message) {
  lanes_[lane]->write(std::move(message), [](const tensorpipe::Error&) {});
}

void RawPeer::Send(const Frame& frame, const std::string& inline_bytes) {
  auto sent = std::make_shared<Sent>();
  sent->inline_bytes = inline_bytes;
  tensorpipe::Message message;
  message.metadata = EncodeFrame(frame);
  if (!inline_bytes.empty()) {
    message.payloads.push_back(
        {sent->inline_bytes.data(), sent->inline_bytes.size(), ""});
  }
  lanes_[0]->write(std::move(message), [sent](const tensorpipe::Error&) {});
}

void RawPeer::SendBytes(const std::string& frame_bytes) {
  tensorpipe::Message message;
  message.metadata = frame_bytes;
  SendMessage(0, std::move(message));
}

void RawPeer::SendBody(int lane, const BodyTag& tag,
                       const std::vector<size_t>& piece_nbytes, bool target) {
  auto sent = std::make_shared<Sent>();
  tensorpipe::Message message;
  message.metadata = EncodeBodyTag(tag);
  for (size_t nbytes : piece_nbytes) sent->pieces.emplace_back(nbytes, 'x');
  for (std::string& piece : sent->pieces) {
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{piece.data()};
    tensor.length = piece.size();
    if (target) tensor.targetDevice = tensorpipe::Device("cpu", 0);
    message.tensors.push_back(std::move(tensor));
  }
  lanes_[lane]->write(std::move(message), [sent](const tensorpipe::Error&) {});
}

absl::StatusOr<Frame> RawPeer::Next() { return NextOn(0); }

absl::StatusOr<Frame> RawPeer::NextOn(int lane) {
  auto described =
      std::make_shared<std::promise<absl::StatusOr<tensorpipe::Descriptor>>>();
  lanes_[lane]->readDescriptor([described](const tensorpipe::Error& error,
                                           tensorpipe::Descriptor descriptor) {
    if (error) {
      described->set_value(absl::UnavailableError(error.what()));
    } else {
      described->set_value(std::move(descriptor));
    }
  });
  FERRY_ASSIGN_OR_RETURN(tensorpipe::Descriptor descriptor,
                         described->get_future().get());
  auto bytes = std::make_shared<std::vector<std::string>>();
  tensorpipe::Allocation allocation;
  for (auto& payload : descriptor.payloads) {
    bytes->emplace_back(payload.length, '\0');
  }
  for (std::string& payload : *bytes) {
    allocation.payloads.push_back({payload.data()});
  }
  auto read = std::make_shared<std::promise<void>>();
  lanes_[lane]->read(
      std::move(allocation),
      [read, bytes](const tensorpipe::Error&) { read->set_value(); });
  read->get_future().get();
  return DecodeFrame(descriptor.metadata, Limits());
}

}  // namespace tensorferry

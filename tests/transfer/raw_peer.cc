#include "tests/transfer/raw_peer.h"

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

// What endpoints call theirs.
constexpr char kTransport[] = "ferry";

// What a message points to, until the transport has it.
struct Sent {
  std::string frame, inline_bytes;
  std::vector<std::string> pieces;
};

template <class T>
absl::StatusOr<T> WaitFor(std::future<absl::StatusOr<T>> future) {
  if (future.wait_for(std::chrono::seconds(60)) == std::future_status::ready) {
    return future.get();
  }
  return absl::DeadlineExceededError("nothing came in a minute");
}

}  // namespace

RawPeer::RawPeer(const TransferRules& rules) : rules_(rules) {
  HubOptions options;
  options.loop = loop_.get();
  options.handshake_timeout = absl::Minutes(1);  // of slow machines
  auto hub = Hub::Create(options);
  if (!hub.ok()) std::abort();
  hub_ = *std::move(hub);
}

// Where endpoints enter tensorpipe too.
template <class Call>
void RawPeer::OnLoop(Call call) {
  absl::Notification called;
  loop_->Post([&] {
    call();
    called.Notify();
  });
  called.WaitForNotification();
}

void RawPeer::MakeContext(
    std::shared_ptr<tensorpipe::transport::Context> transport,
    Channels channels) {
  channels["basic"] = tensorpipe::channel::basic::create();
  context_ = std::make_unique<tensorpipe::Context>();
  context_->registerTransport(0, kTransport, std::move(transport));
  int64_t priority = 0;
  for (auto& [name, channel] : channels) {
    for (const auto& [device, text] : channel->deviceDescriptors()) {
      channels_.push_back({name, device.type, device.index, text});
    }
    context_->registerChannel(priority--, name, channel);
  }
}

void RawPeer::Dial(const std::string& address, const std::string& key,
                   const Channels& channels) {
  auto dialed = hub_->Dial({rules_.session_id, key}, address, {});
  if (!dialed.ok()) std::abort();
  MakeContext(*std::move(dialed), channels);
  address_ = absl::StrCat(kTransport, "://", address);
}

void RawPeer::OpenLane() {
  OnLoop([this] { lanes_.push_back(context_->connect(address_)); });
}

absl::StatusOr<std::unique_ptr<RawPeer>> RawPeer::Connect(
    const std::vector<std::string>& addresses, const std::string& key,
    const TransferRules& rules, std::vector<GivenUpPath> given_up,
    const Channels& channels) {
  std::unique_ptr<RawPeer> peer(new RawPeer(rules));
  peer->Dial(addresses.at(0), key, channels);
  HelloFrame hello;
  hello.wire = addresses.at(0).substr(0, addresses.at(0).find(':'));
  hello.channels = peer->channels_;
  hello.session_id = rules.session_id;
  hello.generation = 1;
  hello.lanes = 1 + rules.limits.body_lanes;
  hello.given_up = std::move(given_up);
  for (uint32_t lane = 0; lane < hello.lanes; ++lane) {
    peer->OpenLane();
    hello.lane = lane;
    peer->SendOn(static_cast<int>(lane), hello);
  }
  for (auto& lane : peer->lanes_) {
    FERRY_RETURN_IF_ERROR(peer->NextOn(lane).status());
  }
  return peer;
}

std::unique_ptr<RawPeer> RawPeer::ConnectSilently(
    const std::vector<std::string>& addresses, const std::string& key,
    const TransferRules& rules) {
  std::unique_ptr<RawPeer> peer(new RawPeer(rules));
  peer->Dial(addresses.at(0), key);
  peer->OpenLane();
  return peer;
}

std::unique_ptr<RawPeer> RawPeer::Listen(const TransferRules& rules) {
  std::unique_ptr<RawPeer> peer(new RawPeer(rules));
  auto expected = peer->hub_->Expect({rules.session_id, key()}, {Wire::kUnix},
                                     absl::InfiniteFuture(), {});
  if (!expected.ok()) std::abort();
  peer->MakeContext(expected->context);
  peer->addresses_ = expected->addresses;
  peer->listener_ = peer->context_->listen(
      {absl::StrCat(kTransport, "://", expected->listen)});
  peer->lanes_.resize(1 + rules.limits.body_lanes);
  return peer;
}

absl::StatusOr<HelloFrame> RawPeer::Accept() {
  auto accepted = std::make_shared<std::promise<absl::StatusOr<Pipe>>>();
  OnLoop([&] {
    listener_->accept([accepted](const tensorpipe::Error& error, Pipe pipe) {
      if (error) {
        accepted->set_value(absl::UnavailableError(error.what()));
      } else {
        accepted->set_value(std::move(pipe));
      }
    });
  });
  FERRY_ASSIGN_OR_RETURN(Pipe pipe, WaitFor(accepted->get_future()));
  FERRY_ASSIGN_OR_RETURN(Frame frame, NextOn(pipe));
  auto* hello = std::get_if<HelloFrame>(&frame);
  if (hello == nullptr || hello->lane >= lanes_.size()) {
    return absl::InternalError("no HELLO of one of the lanes came");
  }
  lanes_[hello->lane] = std::move(pipe);
  return std::move(*hello);
}

HelloFrame RawPeer::Answer(const HelloFrame& hello) const {
  HelloFrame answer;
  answer.session_id = rules_.session_id;
  answer.wire = hello.wire;
  answer.lane = hello.lane;
  answer.generation = hello.generation;
  answer.lanes = hello.lanes;
  answer.channels = channels_;
  return answer;
}

absl::Status RawPeer::AcceptAll() {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(HelloFrame hello, Accept());
    SendOn(static_cast<int>(hello.lane), Answer(hello));
  }
  return absl::OkStatus();
}

RawPeer::~RawPeer() {
  // A listener of tensorpipe's and the pipes that nobody took from it hold each
  // other for ever.
  if (listener_ != nullptr) {
    OnLoop([this] {
      for (size_t i = 0; i < lanes_.size(); ++i) {
        listener_->accept([](const tensorpipe::Error&, Pipe) {});
      }
    });
  }
  context_->close();
  context_->join();
}

void RawPeer::Write(const Pipe& pipe, tensorpipe::Message message,
                    std::shared_ptr<void> sent) {
  OnLoop([&] {
    pipe->write(std::move(message), [sent](const tensorpipe::Error&) {});
  });
}

void RawPeer::SendMessage(int lane, tensorpipe::Message message) {
  Write(lanes_[lane], std::move(message), nullptr);
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
  Write(lanes_[0], std::move(message), sent);
}

void RawPeer::SendBytes(const std::string& frame_bytes) {
  tensorpipe::Message message;
  message.metadata = frame_bytes;
  SendMessage(0, std::move(message));
}

void RawPeer::SendOn(int lane, const Frame& frame) {
  tensorpipe::Message message;
  message.metadata = EncodeFrame(frame);
  SendMessage(lane, std::move(message));
}

void RawPeer::SendBody(int lane, const BodyTag& tag,
                       const std::vector<size_t>& piece_nbytes, bool target,
                       char byte) {
  auto sent = std::make_shared<Sent>();
  tensorpipe::Message message;
  message.metadata = EncodeBodyTag(tag);
  for (size_t nbytes : piece_nbytes) sent->pieces.emplace_back(nbytes, byte);
  for (std::string& piece : sent->pieces) {
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{piece.data()};
    tensor.length = piece.size();
    if (target) tensor.targetDevice = tensorpipe::Device("cpu", 0);
    message.tensors.push_back(std::move(tensor));
  }
  Write(lanes_[lane], std::move(message), sent);
}

void RawPeer::CloseLane(int lane) {
  OnLoop([&] { lanes_[lane]->close(); });
}

absl::StatusOr<Frame> RawPeer::Next() { return NextOn(lanes_[0]); }

absl::Status RawPeer::WaitForEndOf(int lane) {
  absl::Status status = NextDescriptor(lanes_[lane]).status();
  if (absl::IsUnavailable(status)) return absl::OkStatus();
  return status.ok() ? absl::InternalError("a message came") : status;
}

absl::StatusOr<tensorpipe::Descriptor> RawPeer::NextDescriptor(
    const Pipe& pipe) {
  auto described =
      std::make_shared<std::promise<absl::StatusOr<tensorpipe::Descriptor>>>();
  OnLoop([&] {
    pipe->readDescriptor([described](const tensorpipe::Error& error,
                                     tensorpipe::Descriptor descriptor) {
      if (error) {
        described->set_value(absl::UnavailableError(error.what()));
      } else {
        described->set_value(std::move(descriptor));
      }
    });
  });
  return WaitFor(described->get_future());
}

absl::StatusOr<Frame> RawPeer::NextOn(const Pipe& pipe) {
  FERRY_ASSIGN_OR_RETURN(tensorpipe::Descriptor descriptor,
                         NextDescriptor(pipe));
  auto bytes = std::make_shared<std::vector<std::string>>();
  tensorpipe::Allocation allocation;
  for (auto& payload : descriptor.payloads) {
    bytes->emplace_back(payload.length, '\0');
  }
  for (std::string& payload : *bytes) {
    allocation.payloads.push_back({payload.data()});
  }
  auto read = std::make_shared<std::promise<absl::StatusOr<bool>>>();
  OnLoop([&] {
    pipe->read(std::move(allocation), [read, bytes](const tensorpipe::Error&) {
      read->set_value(true);
    });
  });
  FERRY_RETURN_IF_ERROR(WaitFor(read->get_future()).status());
  const bool apart = descriptor.metadata.empty() && !bytes->empty();
  return DecodeFrame(apart ? bytes->front() : descriptor.metadata, Limits());
}

}  // namespace tensorferry

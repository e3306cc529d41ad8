#include "tests/transfer/link_fixture.h"

#include <ATen/ops/empty.h>

#include <cstring>

namespace tensorferry {

at::Tensor Pattern(int64_t nbytes, uint8_t seed) {
  at::Tensor tensor = at::empty({nbytes}, at::kByte);
  auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
  for (int64_t i = 0; i < nbytes; ++i) {
    bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 11) + seed);
  }
  return tensor;
}

TensorMessage PatternMessage(int64_t nbytes, uint8_t seed, int64_t id) {
  TensorMessage message;
  message.type = 7;
  message.id = id;
  message.payload = "payload";
  message.tensors = {Pattern(nbytes, seed)};
  message.names = {"data"};
  return message;
}

HeldLoop::HeldLoop(Link& link) {
  SendOptions options;
  options.done_is_quick = true;
  link.Send(PatternMessage(10, 1), {}, options, [this](auto) {
    held_.Notify();
    go_on_.WaitForNotification();
  });
}

bool SameBytes(const at::Tensor& a, const at::Tensor& b) {
  return a.nbytes() == b.nbytes() &&
         std::memcmp(a.data_ptr(), b.data_ptr(), a.nbytes()) == 0;
}

TransferRules BasicRules() {
  TransferRules rules;
  rules.session_id = "session-1";
  rules.peer_name = "other";
  rules.plan_digest = "plan-1";
  rules.paths = {"unix/basic"};
  return rules;
}

void LinkTest::Connect(TransferRules rules, Clock* clock,
                       std::optional<uint64_t> pool_bytes) {
  EndpointOptions options;
  options.executor = &executor_;
  options.clock = clock;
  if (clock == Clock::Real()) {
    options.data.handshake_timeout = absl::Minutes(1);  // of slow machines
  }
  options.pool_bytes = pool_bytes;
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(options, options, rules, rules);
  ASSERT_TRUE(pair.ok()) << pair.status();
  pair_ = std::make_unique<InProcessPair>(*std::move(pair));
}

absl::StatusOr<Received> LinkTest::Transfer(TensorMessage message,
                                            ReceiveOptions options) {
  Outcome<Received> received;
  Outcome<Receipt> sent;
  callee().Receive(std::move(options), received.done());
  caller().Send(std::move(message), {}, {}, sent.done());
  absl::StatusOr<Receipt> receipt = sent.Wait();
  if (!receipt.ok()) return receipt.status();
  return received.Wait();
}

}  // namespace tensorferry

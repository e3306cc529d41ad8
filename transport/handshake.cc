#include "transport/handshake.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/little_endian.h"

namespace tensorferry {
namespace {

// Hello: magic 4, version 1, wire 1, length of the id 1, zero 1, number 8,
// nonce 32, id. Challenge: magic 4, version 1, refusal 1, zero 2, nonce 32,
// proof 32. Numbers are little-endian.
constexpr uint8_t kMagic[4] = {'T', 'F', 'D', 'P'};
constexpr uint8_t kVersion = 1;
constexpr size_t kVersionAt = 4, kWireAt = 5, kRefusalAt = 5, kIdLengthAt = 6;
constexpr size_t kNumberAt = 8, kHelloNonceAt = 16;
constexpr size_t kChallengeNonceAt = 8, kProofAt = 40;

uint8_t WireByte(Wire wire) { return static_cast<uint8_t>(wire) + 1; }

absl::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The proof of one side over the hello, which names everything but the server's
// nonce.
Proof ProofOf(absl::string_view role, const SessionKey& session,
              absl::string_view hello, absl::string_view server_nonce) {
  return Prove(session.key, absl::StrCat("tensorferry data port, proof of the ",
                                         role, ":", hello, server_nonce));
}

absl::Status RefusedBecause(uint8_t refusal, uint8_t version) {
  switch (static_cast<Refusal>(refusal)) {
    case Refusal::kVersion:
      return absl::FailedPreconditionError(
          absl::StrCat("the peer's data port speaks version ", version,
                       " of the handshake, this side ", kVersion));
    case Refusal::kSession:
      return absl::UnauthenticatedError(
          "the peer's data port does not expect this session (any more)");
    case Refusal::kWire:
      return absl::FailedPreconditionError(
          "the peer's data port does not allow this session over this wire");
    case Refusal::kConnections:
      return absl::ResourceExhaustedError(
          "the session has as many connections as the peer allows");
    case Refusal::kNone:
      break;
  }
  return absl::UnauthenticatedError(
      absl::StrCat("the peer's data port refuses, for reason ", refusal));
}

}  // namespace

absl::Status Handshake::Receive(absl::Span<const uint8_t> bytes) {
  if (bytes.size() > wanted()) {
    return absl::InternalError("handshake: more bytes than it wanted");
  }
  std::copy(bytes.begin(), bytes.end(), in_.begin() + received_);
  received_ += bytes.size();
  return received_ == wanted_ ? OnReceived() : absl::OkStatus();
}

void Handshake::Say(const uint8_t* data, size_t size) {
  std::copy_n(data, size, out_.begin());
  out_size_ = size;
  sent_ = 0;
}

ClientHandshake::ClientHandshake(SessionKey session, Wire wire, uint64_t number,
                                 const Nonce& nonce)
    : Handshake(kChallengeBytes), session_(std::move(session)) {
  std::array<uint8_t, kHelloBytes> hello = {};
  std::copy_n(kMagic, sizeof(kMagic), hello.begin());
  hello[kVersionAt] = kVersion;
  hello[kWireAt] = WireByte(wire);
  hello[kIdLengthAt] = static_cast<uint8_t>(session_.session_id.size());
  StoreLittleEndian(number, 8, &hello[kNumberAt]);
  std::copy(nonce.begin(), nonce.end(), &hello[kHelloNonceAt]);
  std::copy(session_.session_id.begin(), session_.session_id.end(),
            &hello[kHelloHead]);
  hello_bytes_ = kHelloHead + session_.session_id.size();
  Say(hello.data(), hello_bytes_);
}

absl::Status ClientHandshake::OnReceived() {
  if (!std::equal(kMagic, kMagic + sizeof(kMagic), in_.begin())) {
    return absl::DataLossError("what answers is no data port of tensorferry");
  }
  if (in_[kRefusalAt] != 0) {
    return RefusedBecause(in_[kRefusalAt], in_[kVersionAt]);
  }
  if (in_[kVersionAt] != kVersion || in_[kRefusalAt + 1] != 0 ||
      in_[kRefusalAt + 2] != 0) {
    return absl::DataLossError("the data port's challenge is malformed");
  }
  const absl::string_view hello = Text(out_.data(), hello_bytes_);
  const absl::string_view nonce = Text(&in_[kChallengeNonceAt], sizeof(Nonce));
  Proof proof;
  std::copy_n(&in_[kProofAt], proof.size(), proof.begin());
  if (!SameProof(proof, ProofOf("server", session_, hello, nonce))) {
    return absl::UnauthenticatedError(
        "the data port did not prove that it knows the session's key");
  }
  proof = ProofOf("client", session_, hello, nonce);
  Say(proof.data(), proof.size());
  WantNext(0);
  return absl::OkStatus();
}

ServerHandshake::ServerHandshake(Wire wire, FindKey find_key,
                                 const Nonce& nonce)
    : Handshake(kHelloHead),
      wire_(wire),
      find_key_(std::move(find_key)),
      nonce_(nonce) {}

absl::Status ServerHandshake::OnReceived() {
  switch (step_) {
    case Step::kHelloHead:
      return OnHelloHead();
    case Step::kHelloId:
      return OnHello();
    case Step::kProof:
      break;
  }
  return OnProof();
}

absl::Status ServerHandshake::OnHelloHead() {
  if (!std::equal(kMagic, kMagic + sizeof(kMagic), in_.begin())) {
    return absl::DataLossError("no hello of tensorferry");
  }
  if (in_[kVersionAt] != kVersion) return Refuse(Refusal::kVersion);
  const size_t id_length = in_[kIdLengthAt];
  if (id_length == 0 || id_length > SessionKey::kLongestId ||
      in_[kIdLengthAt + 1] != 0) {
    return absl::DataLossError("a malformed hello");
  }
  if (in_[kWireAt] != WireByte(wire_)) return Refuse(Refusal::kWire);
  step_ = Step::kHelloId;
  WantMore(id_length);
  return absl::OkStatus();
}

absl::Status ServerHandshake::OnHello() {
  const absl::string_view hello = received();
  number_ = LoadLittleEndian(&in_[kNumberAt], 8);
  session_.session_id = std::string(hello.substr(kHelloHead));
  auto key = find_key_(session_.session_id);
  if (auto* refusal = std::get_if<Refusal>(&key)) return Refuse(*refusal);
  session_.key = std::get<std::string>(std::move(key));

  const absl::string_view nonce = Text(nonce_.data(), nonce_.size());
  const Proof proof = ProofOf("server", session_, hello, nonce);
  expected_ = ProofOf("client", session_, hello, nonce);
  std::array<uint8_t, kChallengeBytes> challenge = {};
  std::copy_n(kMagic, sizeof(kMagic), challenge.begin());
  challenge[kVersionAt] = kVersion;
  std::copy(nonce_.begin(), nonce_.end(), &challenge[kChallengeNonceAt]);
  std::copy(proof.begin(), proof.end(), &challenge[kProofAt]);
  Say(challenge.data(), challenge.size());
  step_ = Step::kProof;
  WantNext(expected_.size());
  return absl::OkStatus();
}

absl::Status ServerHandshake::OnProof() {
  Proof proof;
  std::copy_n(in_.begin(), proof.size(), proof.begin());
  if (!SameProof(proof, expected_)) {
    return absl::UnauthenticatedError(
        "the client did not prove that it knows the session's key");
  }
  WantNext(0);
  return absl::OkStatus();
}

absl::Status ServerHandshake::Refuse(Refusal refusal) {
  std::array<uint8_t, kChallengeBytes> challenge = {};
  std::copy_n(kMagic, sizeof(kMagic), challenge.begin());
  challenge[kVersionAt] = kVersion;
  challenge[kRefusalAt] = static_cast<uint8_t>(refusal);
  Say(challenge.data(), challenge.size());
  return absl::UnauthenticatedError(
      absl::StrCat("refused, for reason ", static_cast<int>(refusal)));
}

}  // namespace tensorferry

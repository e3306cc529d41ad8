#!/usr/bin/env python3
"""Asks a peer's control plane from Python, knowing none of its protos.

  pip install grpcio grpcio-reflection
  python3 examples/control_client.py 127.0.0.1:4750
  python3 examples/control_client.py HOST:4750 --tls_ca ca.pem --token_file token

Everything is learnt through gRPC server reflection: what the peer can do
(Control.GetCapabilities), whether an offer would be accepted and over which
path (Control.Explain), who is connected (Control.ListSessions), and what it
has to give (Catalog.ListBundles).
"""

import argparse
import pathlib
import sys

import grpc
from google.protobuf import descriptor_pool
from google.protobuf import json_format
from google.protobuf import message_factory
from grpc_reflection.v1alpha import proto_reflection_descriptor_database

DEADLINE_S = 10


class Service:
  """Calls the unary methods of one service by name."""

  def __init__(self, channel, pool, name):
    self._channel = channel
    self._descriptor = pool.FindServiceByName(name)

  def call(self, method_name, **fields):
    method = self._descriptor.methods_by_name[method_name]
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    call = self._channel.unary_unary(
        f"/{self._descriptor.full_name}/{method_name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString)
    return call(json_format.ParseDict(fields, request()), timeout=DEADLINE_S)


def open_channel(address, tls_ca, token_file):
  if not tls_ca:
    return grpc.insecure_channel(address)
  credentials = grpc.ssl_channel_credentials(pathlib.Path(tls_ca).read_bytes())
  if token_file:
    token = pathlib.Path(token_file).read_text().strip()
    credentials = grpc.composite_channel_credentials(
        credentials, grpc.access_token_call_credentials(token))
  return grpc.secure_channel(address, credentials)


def main(channel):
  pool = descriptor_pool.DescriptorPool(
      proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(
          channel))
  control = Service(channel, pool, "tensorferry.control.v1.Control")

  capabilities = control.call("GetCapabilities").capabilities
  print(f"peer {capabilities.peer.name!r}, epoch {capabilities.peer.epoch}")
  for path in capabilities.paths:
    state = f"not usable: {path.unusable}" if path.unusable else "usable"
    print(f"  path {path.name}: {path.from_type} -> {path.to_type}, {state}")

  # An offer as this very peer would make it to itself.
  own = json_format.MessageToDict(capabilities)
  answer = control.call("Explain", offer={}, caller=own)
  for pair in answer.plan.paths:
    print(f"an offer without rules goes over {', '.join(pair.ranked)}")

  sessions = control.call("ListSessions").sessions
  print(f"{len(sessions)} sessions")
  try:
    catalog = Service(channel, pool, "tensorferry.catalog.v1.Catalog")
  except KeyError:
    print("it serves no catalog")
    return
  for bundle in catalog.call("ListBundles").bundles:
    print(f"bundle {bundle.name!r} version {bundle.version}: "
          f"{len(bundle.tensors)} tensors")


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("address")
  parser.add_argument("--tls_ca", help="who signed the peer's certificate (PEM)")
  parser.add_argument("--token_file", help="the token to show, over TLS only")
  args = parser.parse_args()
  if args.token_file and not args.tls_ca:
    parser.error("--token_file needs --tls_ca")
  try:
    main(open_channel(args.address, args.tls_ca, args.token_file))
  except grpc.RpcError as error:
    sys.exit(f"{args.address}: {error.code().name}: {error.details()}")

"""The conformance kit: plays a server against an agent in any language and scores how it behaves."""

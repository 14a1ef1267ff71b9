/// A distinguished name (RFC 4514).
public struct DN: Hashable, Sendable {}

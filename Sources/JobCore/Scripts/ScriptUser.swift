/// As whom a script runs.
public struct ScriptUser: Hashable, Sendable {
    /// The user's number.
    public var uid: UInt32
}

public import DirectoryModel

/// Which entries to keep in step with (RFC 4533).
public struct ContentSyncRequest: Hashable, Sendable {
    /// Whether the server goes on telling after the present state.
    public enum Mode: Int, Hashable, Sendable {
        /// The present state, then the end.
        case refreshOnly = 1
        /// The present state, then each change, for ever.
        case refreshAndPersist = 3
    }

    /// Where the search begins.
    public var base: DN
    /// How far it goes.
    public var scope: SearchScope
    /// Which entries are wanted. One that stops matching is told as deleted.
    public var filter: Filter
    /// Which attributes are wanted, as in a search.
    public var attributes: [AttributeName]
    /// Where an earlier synchronization came to; nil begins anew.
    public var cookie: [UInt8]?
    /// Whether to go on after the present state.
    public var mode: Mode

    /// Everything below `base`, for ever, unless the arguments say less.
    public init(
        base: DN, scope: SearchScope = .subtree, filter: Filter, attributes: [AttributeName] = [],
        cookie: [UInt8]? = nil, mode: Mode = .refreshAndPersist
    ) {
        self.base = base
        self.scope = scope
        self.filter = filter
        self.attributes = attributes
        self.cookie = cookie
        self.mode = mode
    }
}

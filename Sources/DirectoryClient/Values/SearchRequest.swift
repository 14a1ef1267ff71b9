public import DirectoryModel

/// How far below its base a search goes (RFC 4511, section 4.5.1.2).
public enum SearchScope: Hashable, Sendable {
    /// The base alone.
    case base
    /// The entries just below the base.
    case oneLevel
    /// The base and everything below.
    case subtree
}

/// What to look for.
public struct SearchRequest: Hashable, Sendable {
    /// Where the search begins.
    public var base: DN
    /// How far it goes.
    public var scope: SearchScope
    /// Which entries are wanted.
    public var filter: Filter
    /// Which attributes are wanted: none named means all user attributes, `*` the same, `+` the operational ones, `1.1` none.
    public var attributes: [AttributeName]
    /// How many entries are asked for at a time (RFC 2696); 0 asks for all at once.
    public var pageSize: Int
    /// More entries than this are an error; 0 leaves the limit to the server.
    public var sizeLimit: Int

    /// A search for everything below `base` unless the arguments say less.
    public init(
        base: DN, scope: SearchScope = .subtree, filter: Filter = .present("objectClass"),
        attributes: [AttributeName] = [],
        pageSize: Int = 500, sizeLimit: Int = 0
    ) {
        self.base = base
        self.scope = scope
        self.filter = filter
        self.attributes = attributes
        self.pageSize = pageSize
        self.sizeLimit = sizeLimit
    }
}

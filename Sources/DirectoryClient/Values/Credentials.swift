public import DirectoryModel

/// Who we are for the server.
public enum Credentials: Hashable, Sendable {
    /// Nobody: no bind is sent.
    case anonymous
    /// A DN and its password (RFC 4513, section 5.1.3). An empty password is refused before anything is sent: servers take it for anonymous
    /// and answer with success (section 5.1.2).
    case simple(bindDN: DN, password: Secret)
    /// Who the layer below says: the user of this process over `ldapi`, the client certificate over TLS (SASL EXTERNAL, RFC 4422).
    case external
}

/// A text that does not show itself in messages, logs or debuggers.
public struct Secret: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    /// Hides the text.
    public init(_ text: String) { self.text = text }

    /// The text itself, for whom must have it.
    public func expose() -> String { text }

    /// Never the text.
    public var description: String { "(secret)" }
    /// Never the text.
    public var debugDescription: String { description }
    /// Never the text.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

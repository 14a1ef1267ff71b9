import JobCore
package import Logging

/// Makes one line of an event, the same for every handler.
enum LogText {
    /// So much of a line is for the metadata; cut on its own, so that a long message does not hide job and account.
    private static let longestMetadata = OneLine.longest / 4
    /// With room for the time and the level.
    private static let longestMessage = OneLine.longest - longestMetadata - 50

    /// The message with everything that comes from elsewhere made harmless.
    static func message(of event: LogEvent) -> String {
        OneLine.cut(OneLine.escaping(event.message.description), to: longestMessage)
    }

    /// `key=value` for each item in the order of the keys, blanks between them; empty when there is none.
    static func metadata(
        of event: LogEvent, handler: Logger.Metadata, provider: Logger.MetadataProvider?
    ) -> String {
        var all = handler
        if let provided = provider?.get() { all.merge(provided) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        if let error = event.error { all["error"] = .string("\(error)") }
        var text = ""
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            if !text.isEmpty { text += " " }
            text += OneLine.escaping(key)
            text += "="
            text += quoted(value)
        }
        return OneLine.cut(text, to: longestMetadata)
    }

    /// Quoted when a reader could not see where it ends.
    private static func quoted(_ value: Logger.MetadataValue) -> String {
        let text = OneLine.cut(OneLine.escaping(plain(value)), to: longestMetadata / 2)
        guard text.isEmpty || text.utf8.contains(where: { " \"=".utf8.contains($0) }) else { return text }
        let quoted = text.utf8.contains(UInt8(ascii: "\"")) ? text.replacing("\"", with: "\\\"") : text
        return "\"" + quoted + "\""
    }

    private static func plain(_ value: Logger.MetadataValue) -> String {
        if value.attributes[LogSecrecy.self] == .secret { return "(secret)" }
        switch value {
        case .string(let text): return text
        case .stringConvertible(let item): return item.description
        case .array(let items): return "[\(items.map(plain).joined(separator: ", "))]"
        case .dictionary(let items):
            let pairs = items.sorted { $0.key < $1.key }.map { "\($0.key): \(plain($0.value))" }
            return "[\(pairs.joined(separator: ", "))]"
        }
    }
}

/// Marks a metadata value that no log handler may show.
package enum LogSecrecy: Int64, Sendable, Logger.MetadataValueAttributes.Attribute {
    case secret = 1
}

extension Logger.MetadataValue {
    /// A value that the handlers of this module write as `(secret)`.
    package static func secret(_ value: some CustomStringConvertible & Sendable) -> Self {
        .attributed(value, attributes: [LogSecrecy.secret])
    }
}

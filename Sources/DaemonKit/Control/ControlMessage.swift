import FoundationEssentials
import JobCore

/// What a client of the control socket asks: one line of JSON. What it means is the handler's affair.
public struct ControlRequest: Hashable, Sendable {
    /// The most bytes that a request may have, its line end not counted.
    public static let sizeLimit = 64 * 1024

    /// The line without its end.
    public let line: [UInt8]

    /// Who asks, as the kernel says (`SO_PEERCRED`); nil where it has not come over a socket.
    public internal(set) var user: UInt32?

    /// - Parameter line: JSON without a line feed, at most `sizeLimit` bytes.
    public init(line: [UInt8]) { self.line = line }

    /// - Throws: what the encoder says.
    public init(encoding value: some Encodable) throws { line = Array(try JSONEncoder().encode(value)) }

    /// - Throws: what the decoder says; it belongs to whoever sent the request.
    public func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(line))
    }
}

/// What the handler answers: lines of JSON.
public struct ControlReply: Hashable, Sendable {
    /// Without their ends. None holds a line feed.
    public let lines: [[UInt8]]

    /// - Parameter lines: each the JSON of one value on one line.
    public init(lines: [[UInt8]]) { self.lines = lines }

    /// - Throws: what the encoder says.
    public init(encoding values: (any Encodable & Sendable)...) throws {
        let encoder = JSONEncoder()
        lines = try values.map { Array(try encoder.encode($0)) }
    }

    /// An answer that says why there is none. The client makes `ControlClientError.refused` of it.
    public static func refusal(_ reason: String) -> Self {
        // A dictionary of one text can always be encoded.
        do {
            return try ControlReply(encoding: Refusal(refused: OneLine.of(reason)))
        } catch {
            return ControlReply(lines: [Array(#"{"refused":"the reason cannot be written"}"#.utf8)])
        }
    }

    var bytes: [UInt8] { lines.flatMap { $0 + [UInt8(ascii: "\n")] } }

    struct Refusal: Codable {
        let refused: String
    }
}

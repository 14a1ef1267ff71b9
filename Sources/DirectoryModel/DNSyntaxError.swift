/// Why a text is not a distinguished name, or not a relative one.
public struct DNSyntaxError: Error, Hashable, CustomStringConvertible {
    /// The text that was read.
    public let text: String
    /// The place of the first character that does not fit, counted in Unicode scalars from 1.
    public let position: Int
    /// What is wrong there.
    public let reason: String
    /// What to write instead.
    public let cure: String

    /// "text", character 7: reason; cure
    public var description: String { "DN \(text.quotedForMessage), character \(position): \(reason); \(cure)" }
}

extension String {
    /// For messages: in quotes, control characters escaped, long text cut.
    var quotedForMessage: String {
        let limit = 200
        let start = String(prefix(limit))
        return String(reflecting: start) + (start.utf8.count < utf8.count ? "…" : "")
    }

    /// The number, from 1, of the Unicode scalar that holds the byte at an offset.
    func scalarPosition(ofByte offset: Int) -> Int {
        String(decoding: utf8.prefix(offset), as: UTF8.self).unicodeScalars.count + 1
    }
}

/// Why a text is not a search filter.
public struct FilterSyntaxError: Error, Hashable, CustomStringConvertible {
    /// The text that was read.
    public let text: String
    /// The place of the first character that does not fit, counted in Unicode scalars from 1.
    public let position: Int
    /// What is wrong there.
    public let reason: String
    /// What to write instead.
    public let cure: String

    /// filter "text", character 7: reason; cure
    public var description: String { "filter \(text.quotedForMessage), character \(position): \(reason); \(cure)" }
}

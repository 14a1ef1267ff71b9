/// Why a record of an LDIF file cannot be read.
public struct LDIFError: Error, Hashable, CustomStringConvertible {
    /// The file's name, as it was given to the parser.
    public let source: String
    /// The line, from 1; of a folded line the first.
    public let line: Int
    /// What is wrong there.
    public let reason: String
    /// What to write instead.
    public let cure: String

    /// file:line: reason; cure
    public var description: String { "\(source):\(line): \(reason); \(cure)" }
}

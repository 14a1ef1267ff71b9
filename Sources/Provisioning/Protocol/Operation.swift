/// What a wish asks for.
public enum Operation: String, CaseIterable, Hashable, Sendable {
    case add, modify, delete
}

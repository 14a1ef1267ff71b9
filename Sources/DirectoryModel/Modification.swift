/// One change of one attribute within a modify (RFC 4511, section 4.6; increment: RFC 4525).
public struct Modification: Hashable, Sendable {
    public enum Action: Hashable, Sendable { case add, delete, replace, increment }

    public var action: Action
    public var attribute: AttributeName
    /// For `delete` and `replace`, empty means the whole attribute.
    public var values: [AttributeValue]

    public init(_ action: Action, _ attribute: AttributeName, _ values: [AttributeValue]) {
        self.action = action
        self.attribute = attribute
        self.values = values
    }

    public static func add(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.add, attribute, values)
    }
    public static func delete(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.delete, attribute, values)
    }
    public static func replace(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.replace, attribute, values)
    }
}

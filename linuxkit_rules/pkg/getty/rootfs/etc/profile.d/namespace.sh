export PS1='(getty) \w \$ '

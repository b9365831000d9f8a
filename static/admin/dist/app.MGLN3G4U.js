import{a as t}from"./chunk.ROKODM6R.js";import{M as r,T as m,b as o}from"./chunk.W27TOBBP.js";var e=document.getElementById("app");e&&o(m(t,{}),e);r();
